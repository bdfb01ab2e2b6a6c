"""Cron expressions to try: those that someone once got wrong, and as many more from the grammar as are wanted."""

import random
from collections.abc import Callable

KNOWN = """
* * * * *
* * * * * *
*/5 * * * *
*/7 * * * *
0 * * * *
30 * * * *
15,45 * * * *
0 0 * * *
30 0 * * *
0 1 * * *
30 1 * * *
59 1 * * *
0 2 * * *
15 2 * * *
30 2 * * *
59 59 1 * * *
0 0 2 * * *
*/30 0 2 * * *
0 3 * * *
30 3 * * *
0 4 * * *
0 12 * * *
0 23 * * *
59 23 * * *
59 59 23 * * *
*/15 0-4 * * *
*/10 2 * * *
0,30 1,2,3 * * *
5-55/25 1-3 * * *
0 */2 * * *
0 1/2 * * *
30 */3 * * *
0 0-23/6 * * *
0 2 1 * *
0 2 L * *
0 2 LW * *
0 2 1W * *
0 2 15W * *
0 2 30W * *
0 2 31W * *
0 2 1,15,L * *
0 2 10W,20W * *
0 2 31,15W 2 *
0 2 15W,*/16 * 1
0 2 */16,15W * 1
0 2 */2 * *
0 2 1-7 * 1
0 2 1-7 * *
0 2 */7 * 1
0 2 * * */2
0 2 13 * 5
0 2 13 * FRI
0 2 1,15 * MON-FRI
0 2 15W * SUN
0 2 * * 0
0 2 * * 7
0 2 * * 5-7
0 2 * * 6/1
0 2 * * 0-7
0 2 * * SUN
30 2 * 3 SUN#5
30 2 * 3 0L
30 2 * 3 7L
0 1 * 10 7L
30 1 * NOV SUN#1
30 2 * MAR 0#2
30 0,1 * 4,9,10 *
0 2 * * 1#1
0 2 * * 1#5
0 2 * * 5L
0 2 * * MON,WED,5L
0 2 29 2 *
0 2 29 2 MON
0 2 31 * *
0 2 31 1-12/2 *
0 0 1 1 *
0 2 1 JAN-MAR,12 *
0 2 *,5 * 1
0 2 5 * 0,*
15 10 0 1 * *
0,30 30 2 * 3,10 *
*/20 30 1-2 * * SUN
@yearly
@monthly
@weekly
@daily
@hourly
""".strip().splitlines()

TELLING = (
    "30 2 * * *",
    "*/20 1,2 * * *",
    "0 2 * * 0",
    "0 2 13 * 5",
    "0 2 */7 * 1",
    "0 2 15W,*/16 * 1",
    "0 2 10W,20W * *",
    "0 2 31,15W 2 *",
)
"""One for each rule that is easily missed."""


def expressions(count: int, seed: str) -> list[str]:
    """Return the known ones and, up to `count`, random ones; the same for the same seed."""
    chance = random.Random(seed)
    found = dict.fromkeys(KNOWN)
    while len(found) < count:
        found[_random(chance)] = None
    return list(found)[:count]


def sample(count: int, seed: str) -> list[str]:
    """Return `count` of them: the telling ones, and known and random ones, half and half."""
    chance = random.Random(seed)
    more = count - len(TELLING)
    return [*TELLING, *chance.sample(KNOWN, more // 2), *(_random(chance) for _ in range(more - more // 2))]


def _random(chance: random.Random) -> str:
    fields = [_minutes(chance), _hours(chance), _days(chance), _months(chance), _weekdays(chance)]
    if chance.random() < 0.15:
        fields.insert(0, chance.choice(("0", "30", "*/15", "59", "10-20/5", "0,1,2", "*")))
    return " ".join(fields)


def _minutes(chance: random.Random) -> str:
    return _of(
        chance,
        (9, lambda: str(chance.randint(0, 59))),
        (4, lambda: _listed(chance, 0, 59)),
        (3, lambda: f"*/{chance.choice((7, 10, 15, 20, 29, 30, 59))}"),
        (2, lambda: _stepped(chance, 0, 59, 25)),
        (1, lambda: f"{chance.randint(0, 59)}/{chance.randint(9, 30)}"),
        (1, lambda: "*"),
    )


def _hours(chance: random.Random) -> str:
    return _of(
        chance,
        (6, lambda: str(chance.randint(0, 4))),
        (2, lambda: str(chance.randint(0, 23))),
        (4, lambda: _listed(chance, 0, 5)),
        (2, lambda: _stepped(chance, 0, 23, 8)),
        (2, lambda: f"*/{chance.randint(2, 12)}"),
        (1, lambda: f"{chance.randint(0, 3)}-{chance.randint(3, 6)}"),
        (2, lambda: "*"),
    )


def _days(chance: random.Random) -> str:
    return _of(
        chance,
        (10, lambda: "*"),
        (3, lambda: str(chance.randint(1, 31))),
        (3, lambda: _listed(chance, 1, 31)),
        (2, lambda: _stepped(chance, 1, 31, 9)),
        (2, lambda: f"*/{chance.randint(2, 16)}"),
        (2, lambda: f"{chance.randint(1, 31)}W"),
        (1, lambda: f"{chance.randint(1, 31)},{chance.randint(1, 31)}W"),
        (1, lambda: f"{chance.randint(1, 31)}W,*/{chance.randint(2, 16)}"),
        (1, lambda: f"{chance.randint(1, 15)}W,{chance.randint(16, 31)}W,L"),
        (2, lambda: chance.choice(("L", "LW", "1,L", "LW,15", "1-3,L"))),
    )


def _months(chance: random.Random) -> str:
    return _of(
        chance,
        (10, lambda: "*"),
        (2, lambda: chance.choice(("3,10", "3,11", "4,10", "4,9", "MAR,OCT,NOV", "2-4"))),
        (1, lambda: str(chance.randint(1, 12))),
        (1, lambda: f"*/{chance.randint(2, 6)}"),
        (1, lambda: "JAN-JUN/2"),
    )


def _weekdays(chance: random.Random) -> str:
    names = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
    return _of(
        chance,
        (10, lambda: "*"),
        (3, lambda: chance.choice(names)),
        (2, lambda: _listed(chance, 0, 7)),
        (2, lambda: f"{chance.randint(0, 7)}#{chance.randint(1, 5)}"),
        (2, lambda: f"{chance.randint(0, 7)}L"),
        (2, lambda: chance.choice(("MON-FRI", "SAT,SUN", "5-7", "*/2", "*/3", "*/7", "1-5/2", "4/2", "mon,wed"))),
    )


def _of(chance: random.Random, *choices: tuple[int, Callable[[], str]]) -> str:
    """Return what one of the choices makes, each as likely as its number says."""
    weights, makers = zip(*choices, strict=True)
    maker: Callable[[], str] = chance.choices(makers, weights)[0]
    return maker()


def _listed(chance: random.Random, low: int, high: int) -> str:
    return ",".join(str(chance.randint(low, high)) for _ in range(chance.randint(2, 3)))


def _stepped(chance: random.Random, low: int, high: int, most: int) -> str:
    start, end = sorted((chance.randint(low, high), chance.randint(low, high)))
    return f"{start}-{end}/{chance.randint(1, most)}"
