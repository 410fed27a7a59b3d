"""Attribution of a change to several causes: Shapley shares, and what only shows in company."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import factorial

Coalition = frozenset[str]


def coalitions(players: Sequence[str]) -> list[Coalition]:
    """Every set of players, small ones first.

    Examples
    --------
    >>> [sorted(each) for each in coalitions(["a", "b"])]
    [[], ['a'], ['b'], ['a', 'b']]
    """
    return [frozenset(each) for size in range(len(players) + 1) for each in combinations(players, size)]


def shapley_shares(values: Mapping[Coalition, float], players: Sequence[str]) -> dict[str, float]:
    """Each player's mean contribution over all orders in which the players may come.

    The shares add up to the value of all players less that of none. Shapley, "A value for n-person
    games", 1953.

    Examples
    --------
    >>> values = {frozenset(): 6.16, frozenset("e"): 11.0, frozenset("d"): 8.5, frozenset("ed"): 12.0}
    >>> {player: round(share, 2) for player, share in shapley_shares(values, ["e", "d"]).items()}
    {'e': 4.17, 'd': 1.67}
    """
    count = len(players)
    shares = dict.fromkeys(players, 0.0)
    for player in players:
        for others in coalitions([each for each in players if each != player]):
            weight = factorial(len(others)) * factorial(count - len(others) - 1) / factorial(count)
            shares[player] += weight * (values[others | {player}] - values[others])
    return shares


def interactions(values: Mapping[Coalition, float], players: Sequence[str]) -> dict[tuple[str, ...], float]:
    """What every set of two or more players does beyond all of its smaller sets.

    These are Harsanyi's dividends: with the effects of the players alone they add up to the whole
    change. Zero where effects just add.

    Examples
    --------
    >>> values = {frozenset(): 6.16, frozenset("e"): 11.0, frozenset("d"): 8.5, frozenset("ed"): 12.0}
    >>> {pair: round(value, 2) for pair, value in interactions(values, ["e", "d"]).items()}
    {('e', 'd'): -1.34}
    """
    found = {}
    for members in coalitions(players):
        if len(members) < 2:
            continue
        inside = coalitions([each for each in players if each in members])
        value = sum((-1) ** (len(members) - len(each)) * values[each] for each in inside)
        found[tuple(each for each in players if each in members)] = value
    return found
