"""HTML of mails: nothing of it runs, nothing of it loads anything, and its words can be read."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.mail.html import MAX_READ, safe_html, text_of_html

PNG = b"\x89PNG\r\n\x1a\n"
ATTACKS = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=https://evil.example/x.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<script/x>alert(1)</script >",
    "<<script>alert(1)//<</script>",
    "<script>alert(1)",
    "<img src=x onerror=alert(1)>",
    '<img src="x" ONERROR="alert(1)" x=">">',
    "<img src='data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9YWxlcnQoMSk+'>",
    "<img/src/onerror=alert(1)>",
    '<img """><script>alert(1)</script>">',
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><a xlink:href='javascript:alert(1)'><text>x</text></a></svg>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
    "<math href='javascript:alert(1)'>x</math>",
    "<form><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<template><img src=x onerror=alert(1)></template>",
    "<textarea></textarea><img src=x onerror=alert(1)>",
    "<title><img src=x onerror=alert(1)></title>",
    "<xmp><img src=x onerror=alert(1)></xmp>",
    "<plaintext><img src=x onerror=alert(1)>",
    "<a href='javascript:alert(1)'>x</a>",
    "<a href='JaVaScRiPt:alert(1)'>x</a>",
    "<a href='java\tscript:alert(1)'>x</a>",
    "<a href='&#106;avascript:alert(1)'>x</a>",
    "<a href=' \x01javascript:alert(1)'>x</a>",
    "<a href='vbscript:msgbox(1)'>x</a>",
    "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
    "<a href='data:text/html;base64,PHNjcmlwdD4='>x</a>",
    "<a href='//evil.example/'>x</a>",
    "<a href='/console/delete'>x</a>",
    "<a href='https://x.example/' ping='https://evil.example/'>x</a>",
    "<a href='https://x.example/' onmouseover=alert(1) target=_self rel=opener>x</a>",
    "<iframe src='javascript:alert(1)'></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data='https://evil.example/x.swf'></object>",
    "<embed src='https://evil.example/x.swf'>",
    "<applet code=x></applet>",
    "<base href='https://evil.example/'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<meta charset=utf-7>+ADw-script+AD4-",
    "<link rel=stylesheet href='https://evil.example/x.css'>",
    "<form action='https://evil.example/'><input name=a><button formaction='javascript:alert(1)'>x</button></form>",
    "<isindex action='javascript:alert(1)' type=image>",
    "<div style='width: expression(alert(1))'>x</div>",
    "<div style='behavior: url(#default#time2)'>x</div>",
    "<div style='-moz-binding: url(https://evil.example/x.xml)'>x</div>",
    "<div style='position:fixed;top:0;left:0;width:100%;height:100%;z-index:9999'>x</div>",
    "<style>@import 'https://evil.example/x.css';</style>",
    "<!--<img src='--><img src=x onerror=alert(1)//'>",
    "<!--[if gte IE 4]><script>alert(1)</script><![endif]-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?xml-stylesheet href='javascript:alert(1)'?>",
    "<x onclick=alert(1)>x</x>",
    "<body onload=alert(1) background='https://evil.example/x.png'>x</body>",
    "<table><td><![endif]--><img src=x onerror=alert(1)></table>",
    "<p title='\"><img src=x onerror=alert(1)>'>x</p>",
    "<p id=location name=cookie class=button>x</p>",
    "<select><style></select><img src=x onerror=alert(1)></style>",
    "\x00<scr\x00ipt>alert(1)</scr\x00ipt>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "<details open ontoggle=alert(1)>x</details>",
    "<marquee onstart=alert(1)>x</marquee>",
    "<keygen autofocus onfocus=alert(1)>",
]
REMOTE = [
    "<img src=https://evil.example/p.gif>",
    "<img src=//evil.example/p.gif>",
    "<img src='\nhttps://evil.example/p.gif'>",
    "<img src='cid:other' srcset='https://evil.example/p.gif 2x'>",
    "<img lowsrc=https://evil.example/p.gif dynsrc=https://evil.example/p.gif>",
    "<img longdesc=https://evil.example/ usemap=https://evil.example/>",
    '<img src=\'data:image/svg+xml,<svg xmlns="http://www.w3.org/2000/svg"><image href="https://evil.example/"/></svg>\'>',
    "<picture><source srcset=https://evil.example/p.gif><img src=https://evil.example/p.gif></picture>",
    "<video src=https://evil.example/v poster=https://evil.example/p.gif><track src=https://evil.example/t></video>",
    "<audio src=https://evil.example/a autoplay></audio>",
    "<source src=https://evil.example/a>",
    "<bgsound src=https://evil.example/a>",
    "<body background=https://evil.example/p.gif>",
    "<table background=https://evil.example/p.gif><tr background=https://evil.example/p.gif><td background=https://evil.example/>",
    "<div style='background: url(https://evil.example/p.gif)'>x</div>",
    "<div style='background-image: url(\"https://evil.example/p.gif\")'>x</div>",
    "<div style='background-color: u\\72l(https://evil.example/p.gif)'>x</div>",
    "<div style='color: red; background: /**/url(https://evil.example/p.gif)'>x</div>",
    "<div style='width: image-set(\"https://evil.example/p.gif\" 1x)'>x</div>",
    "<div style='border: 1px; border-image: url(https://evil.example/p.gif)'>x</div>",
    "<ul style='list-style: url(https://evil.example/)'><li style='list-style-image:url(https://evil.example/)'>x</ul>",
    "<div style='cursor: url(https://evil.example/c.cur), auto'>x</div>",
    "<div style='content: url(https://evil.example/c)'>x</div>",
    "<div style='font-family: x; src: url(https://evil.example/f.woff)'>x</div>",
    "<div style='filter: url(https://evil.example/f.svg#f); mask: url(https://evil.example/)'>x</div>",
    "<div style='shape-outside: url(https://evil.example/); clip-path: url(https://evil.example/)'>x</div>",
    "<div style='--x: url(https://evil.example/); color: var(--x)'>x</div>",
    "<style>body { background: url(https://evil.example/p) } @font-face { src: url(https://evil.example/f) }</style>",
    "<link rel=prefetch href=https://evil.example/>",
    "<link rel=dns-prefetch href=//evil.example>",
    "<link rel=preconnect href=https://evil.example><link rel=preload as=image href=https://evil.example/>",
    "<link rel=icon href=https://evil.example/>",
    "<html manifest=https://evil.example/m>",
    "<head profile=https://evil.example/p></head>",
    "<iframe src=https://evil.example/></iframe>",
    "<frameset><frame src=https://evil.example/></frameset>",
    "<object data=https://evil.example/><param name=movie value=https://evil.example/></object>",
    "<embed src=https://evil.example/>",
    "<input type=image src=https://evil.example/p.gif>",
    "<svg><image xlink:href=https://evil.example/p.gif /><use href=https://evil.example/#x /></svg>",
    "<svg><feImage href=https://evil.example/p.gif /></svg>",
    "<math><mglyph src=https://evil.example/p.gif></math>",
    "<blockquote cite=https://evil.example/>x</blockquote><q cite=https://evil.example/>x</q>",
    "<portal src=https://evil.example/></portal>",
    "<script src=https://evil.example/></script>",
    "<v:image src=https://evil.example/p.gif /><v:fill src=https://evil.example/p.gif>",
]
TAG = re.compile(r"<(/?)([a-z0-9]+)((?: [a-z]+=\"[^\"<>]*\")*)>")
ATTRIBUTE = re.compile(r' ([a-z]+)="([^"]*)"')
LOADING = {
    "src",
    "srcset",
    "background",
    "poster",
    "data",
    "cite",
    "longdesc",
    "lowsrc",
    "dynsrc",
    "action",
    "usemap",
    "ping",
}
RUNNING = {"script", "style", "iframe", "object", "embed", "form", "input", "link", "meta", "base", "svg", "math"}


def check(html: str) -> None:
    """Assert that all tags are well-formed and harmless, and that no attribute runs, loads or covers anything."""
    assert "<" not in TAG.sub("", html)
    for _, tag, attributes in TAG.findall(html):
        assert tag not in RUNNING
        found = ATTRIBUTE.findall(attributes)
        for name, value in found:
            assert not name.startswith("on")
            assert name not in {"id", "class"}
            if name in LOADING:
                assert (tag, name) == ("img", "src")
                assert re.match(r"data:image/(png|jpeg|gif|webp);base64,", value)
            if name == "href":
                assert re.match(r"(https?://|mailto:|tel:)", value)
            if name == "style":
                assert not re.search(r"url|\\|/\*|@|expression|position|var\(|image", value, re.IGNORECASE)
        if tag == "a" and ("href" in dict(found)):
            assert dict(found)["rel"] == "noopener noreferrer nofollow"
            assert dict(found)["target"] == "_blank"


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_runs(attack: str) -> None:
    check(safe_html(attack))
    check(safe_html(f"<div><p>{attack}</p><b>{attack}"))


@pytest.mark.parametrize("remote", REMOTE)
def test_nothing_is_loaded_from_elsewhere(remote: str) -> None:
    shown = safe_html(remote)
    check(shown)
    assert "evil.example" not in shown


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([*ATTACKS, *REMOTE, "<", ">", '"', "'", "--", "/", "=", " ", "]]>", "</p>"]), max_size=6),
    st.integers(1, 60),
)
def test_pieces_of_attacks_make_no_new_one(pieces: list[str], cut: int) -> None:
    check(safe_html("".join(piece[: len(piece) * cut // 60] for piece in pieces)))


@given(st.text(alphabet=st.characters(max_codepoint=0x2FF), max_size=200))
def test_any_text_is_safe_html(text: str) -> None:
    check(safe_html(text))
    assert "\0" not in text_of_html(text)


def test_what_is_harmless_stays() -> None:
    html = (
        '<h1>Offer</h1><p style="color: red; position: fixed; margin: 0 auto">Dear <b>Bob</b>,</p>'
        '<a href="https://shop.example/?a=1&amp;b">buy</a><table width="600"><tr><td bgcolor="red">1</td></tr></table>'
    )
    assert safe_html(html) == (
        '<h1>Offer</h1><p style="color: red; margin: 0 auto">Dear <b>Bob</b>,</p>'
        '<a href="https://shop.example/?a=1&amp;b" target="_blank" rel="noopener noreferrer nofollow">buy</a>'
        '<table width="600"><tbody><tr><td bgcolor="red">1</td></tr></tbody></table>'
    )


def test_pictures_of_the_mail_itself_are_shown_and_others_are_not() -> None:
    html = '<img src="cid:logo@x" alt="Logo"><img src="cid:page@x"><img src="cid:unknown">'
    shown = safe_html(html, {"logo@x": ("image/png", PNG), "page@x": ("text/html", b"<script>")})
    assert shown == '<img src="data:image/png;base64,iVBORw0KGgo=" alt="Logo"><img><img>'


def test_a_picture_within_the_html_is_shown() -> None:
    assert safe_html('<img src="data:image/gif;base64,R0lGODlh">') == '<img src="data:image/gif;base64,R0lGODlh">'


@pytest.mark.parametrize(
    "html",
    [
        "<div>" * 20_000, "<!--" * 20_000, "<a " + " x" * 60_000, '<a "' * 20_000, "<" * 60_000,
        "<b>".join(f"<font color={n}>" for n in range(5_000)) + "<p>x" * 10_000, "<p>" * 1_000 + "<b>" * 10_000,
        "<a><b><p>" * 4_000 + "</a></b>" * 4_000, "<table>" * 20_000, "&#" * 40_000, "<script>" * 10_000,
    ],
    ids=str.split,
)  # fmt: skip
def test_html_made_to_cost_much_costs_little(html: str) -> None:
    began = time.process_time()
    check(safe_html(html))
    assert len(text_of_html(html)) <= MAX_READ
    assert time.process_time() - began < 3.0


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One</p><p>two<br>three</p>", "One\n\ntwo\nthree"),
        ("a\n  b\t c", "a b c"),
        ("<ul><li>one<li>two</ul>", "- one\n- two"),
        ('<a href="https://x.example/">here</a>', "here [https://x.example/]"),
        ('<a href="https://x.example/">https://x.example/</a>', "https://x.example/"),
        ('<a href="mailto:a@x.example">a@x.example</a>', "a@x.example"),
        ('<a href="javascript:alert(1)">here</a>', "here"),
        ("<table><tr><td>1</td><td>2</td></tr><tr><td>3</td></tr></table>", "1 2\n\n3"),
        ("<style>p{}</style><script>x()</script><title>t</title>words<!-- remark -->", "words"),
        ("&lt;b&gt; &amp; &eacute; &nbsp;x", "<b> & é  x"),
        ("1 < 2 > 1", "1 < 2 > 1"),
        ("<pre>a\n b</pre>", "a\nb"),
        ("&#0;&#xd800;", "\ufffd\ufffd"),
        ("", ""),
    ],
)
def test_html_is_put_into_words(html: str, text: str) -> None:
    assert text_of_html(html) == text
