"""What language a text is written in, as the name of a text search configuration of Postgres.

py3langid, and not langdetect, which unstructured brings: the one's probabilities are calibrated, so that it can be told
when it does not know. It said 0.01 of "OK" and 0.06 of a function in Python; the other 1.00 and 0.85, of wrong ones.
"""

from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

AUTO: Final = "auto"
# For what is too short, or no language at all: what the words of a program's source, a table or a name are mostly in.
UNKNOWN: Final = "english"
# For languages that Postgres has no stemmer of: words as they are.
OTHER: Final = "simple"

_CONFIGURATIONS: Final = {
    "ar": "arabic",
    "ca": "catalan",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "eu": "basque",
    "fi": "finnish",
    "fr": "french",
    "ga": "irish",
    "hi": "hindi",
    "hu": "hungarian",
    "hy": "armenian",
    "id": "indonesian",
    "it": "italian",
    "lt": "lithuanian",
    "nb": "norwegian",
    "ne": "nepali",
    "nl": "dutch",
    "nn": "norwegian",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sr": "serbian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
    "yi": "yiddish",
}
_SURE: Final = 0.8
_SAMPLES: Final = 5
_SAMPLE_CHARACTERS: Final = 500


def language_of(text: str) -> str:
    """Return the configuration for a text, by samples from all over it."""
    code, sureness = _identifier().classify(_sample(text))
    if sureness < _SURE:
        return UNKNOWN
    return _CONFIGURATIONS.get(code, OTHER)


def load() -> None:
    """Load the model (1.7 s, 100 MB), once a process."""
    _identifier()


@cache
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _sample(text: str) -> str:
    if len(text) <= _SAMPLES * _SAMPLE_CHARACTERS:
        return text
    step = len(text) // _SAMPLES
    return "\n".join(text[start : start + _SAMPLE_CHARACTERS] for start in range(0, step * _SAMPLES, step))
