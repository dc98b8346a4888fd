"""Token, and what else can be one."""

import copy
import pickle
import weakref

import pytest
from util import PATIENCE, READABLE, socket_pair

from metalio import PollOpt, Token


def test_it_is_an_int():
    token = Token(7)
    assert isinstance(token, int)
    assert token == 7 and hash(token) == hash(7)
    assert ["a", "b"][Token(1)] == "b"
    assert {7: "x"}[token] == "x"
    assert Token(1) < Token(2)
    assert Token() == 0 and not Token()
    assert Token("12") == 12
    assert Token(1 << 100) == 1 << 100
    with pytest.raises(ValueError):
        Token("x")


def test_repr_and_str():
    assert repr(Token(7)) == "Token(7)"
    assert str(Token(7)) == "7"
    assert f"{Token(7)}" == "7" and f"{Token(7):03}" == "007"
    assert repr(Token(-1)) == "Token(-1)"


def test_copies():
    for made in (copy.copy(Token(7)), copy.deepcopy(Token(7)), pickle.loads(pickle.dumps(Token(7)))):
        assert type(made) is Token and made == 7


def test_it_is_small():
    with pytest.raises(AttributeError):
        Token(1).anything = 1


class Anything:
    __slots__ = ("__weakref__",)

    def __eq__(self, other):
        raise AssertionError("tokens are not compared")

    __hash__ = None

    def __bool__(self):
        raise AssertionError("tokens are not tested")


@pytest.mark.parametrize(
    "token",
    [
        Token(1),
        0,
        -1,
        1 << 80,
        None,
        False,
        "",
        "text",
        (),
        [],
        {},
        object(),
        Anything(),
        Anything,
        float("nan"),
        print,
    ],
    ids=lambda token: type(token).__name__,
)
def test_any_object_is_handed_back_by_identity(poll, events, token):
    left, right = socket_pair()
    poll.registry.register(left, token, READABLE, PollOpt.LEVEL)
    right.send(b"x")
    assert poll.poll(events, PATIENCE) == 1
    assert events[0].token is token
    assert [event.token is token for event in events] == [True]
    other = Anything()
    poll.registry.reregister(left, other, READABLE, PollOpt.LEVEL)
    assert poll.poll(events, PATIENCE) == 1
    assert events[0].token is other


def test_the_poll_and_the_source_themselves_can_be_tokens(poll, events):
    left, right = socket_pair()
    for token in (left, poll, poll.registry, events):
        poll.registry.register(left, token, READABLE, PollOpt.LEVEL)
        right.send(b"x")
        assert poll.poll(events, PATIENCE) == 1
        assert events[0].token is token
        poll.registry.deregister(left)


def test_the_table_keeps_a_token_and_only_as_long_as_it_is_registered(poll, events):
    left, right = socket_pair()
    token = Anything()
    alive = weakref.ref(token)
    poll.registry.register(left, token, READABLE, PollOpt.LEVEL)
    del token
    right.send(b"x")
    poll.poll(events, PATIENCE)
    assert alive() is not None
    assert events[0].token is alive()
    poll.registry.deregister(left)
    assert alive() is None
