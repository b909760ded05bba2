"""The membership core by itself: one node, its inputs written by hand."""

import random

import pytest

from mesh.swim import Event, Peer, Swim, SwimConfig
from mesh.swim.wire import MAX_INCARNATION, Kind, Message, Update, decode, encode

ME, A, B, C, D, VAULT = ("m" * 16, "a" * 16, "b" * 16, "c" * 16, "d" * 16, "v" * 16)
PERIOD = SwimConfig().period
SOON = SwimConfig().redial_on_rumour + 1


class Node:
    """A core, and the little it takes to talk to it. Time only goes on by `at`."""

    def __init__(self, *others: str, quiet: bool = False, incarnation: int = 0) -> None:
        self.core = Swim(ME, random.Random(1), SwimConfig(), quiet, incarnation)
        self.now = 0.0
        self.core.set_members({id: Peer(quiet=id == VAULT) for id in (ME, *others)}, 0.0)

    def hears(self, sender: str, kind: Kind = "gossip", *updates: Update, **header: int | str) -> "Node":
        message = Message(
            kind,
            int(header.get("sequence", 0)),
            int(header.get("incarnation", 0)),
            str(header.get("subject", ME)),
            updates,
        )
        self.core.receive(encode(message), sender, self.now)
        return self

    def says(self) -> list[tuple[str, Message]]:
        return [(to, decode(datagram)) for to, datagram in self.core.outputs()]

    def lives(self, until: float, answering: tuple[str, ...] = ()) -> "Node":
        """Time passes, while these answer each ping."""
        while (deadline := self.core.next_deadline()) is not None and deadline <= until:
            self.now = max(deadline, self.now)
            self.core.tick(self.now)
            for to, message in self.says():
                if to in answering and message.kind == "ping":
                    state = self.core.states()[to]
                    self.hears(to, "ack", sequence=message.sequence, incarnation=state.incarnation)
        self.now = until
        return self

    def state(self, id: str) -> str:
        return self.core.states()[id].state

    def told(self) -> list[tuple[str, str]]:
        return [(event.kind, event.member) for event in self.core.events()]


def suspect(about: str, by: str, incarnation: int = 0) -> Update:
    return Update("suspect", about, incarnation, by)


def alive(about: str, incarnation: int = 0) -> Update:
    return Update("alive", about, incarnation, about)


def left(about: str, incarnation: int = 0) -> Update:
    return Update("left", about, incarnation, about)


class TestMeeting:
    def test_new_members_are_dialled(self) -> None:
        node = Node(A, B)
        assert node.state(A) == "unknown"
        node.core.tick(0.2)
        assert {(to, message.kind) for to, message in node.says()} >= {(A, "ping"), (B, "ping")}

    @pytest.mark.parametrize("kind", ["ping", "ack", "ping-req", "nack", "gossip"])
    def test_any_message_shows_that_a_node_is_alive(self, kind: Kind) -> None:
        node = Node(A).hears(A, kind)
        assert node.told() == [("alive", A)]
        assert node.core.states()[A].via == "direct"

    def test_a_node_known_only_through_others_is_alive(self) -> None:
        node = Node(A, B).hears(A, "gossip", alive(B, 3))
        assert (node.state(B), node.core.states()[B].via) == ("alive", "indirect")

    def test_a_stranger_is_dropped_and_counted_and_a_rumour_makes_no_member(self) -> None:
        node = Node(A).hears(B).hears(A, "gossip", alive(C))
        assert node.core.dropped == {"stranger": 1}
        assert set(node.core.states()) == {A}

    def test_one_met_anew_is_told_who_else_is_alive(self) -> None:
        node = Node(A, B).hears(A, "gossip", incarnation=5)
        node.says()
        ((to, ack),) = node.hears(B, "ping", sequence=9).says()
        assert (to, ack.kind, ack.sequence) == (B, "ack", 9)
        assert alive(A, 5) in ack.updates

    def test_who_is_no_member_any_more_is_forgotten_without_a_word(self) -> None:
        node = Node(A, B).hears(A).hears(B)
        node.told()
        node.core.set_members({B: Peer()}, node.now)
        node.hears(A).lives(until=100)
        assert set(node.core.states()) == {B}
        assert A not in {member for _, member in node.told()}

    def test_a_round_trip_is_measured(self) -> None:
        node = Node(A)
        node.core.tick(0.2)
        ((_, ping),) = [(to, message) for to, message in node.says() if message.kind == "ping"]
        node.now = 0.25
        node.hears(A, "ack", sequence=ping.sequence)
        assert node.core.states()[A].rtt == pytest.approx(0.05)


class TestProbing:
    def test_who_answers_stays_alive(self) -> None:
        node = Node(A, B).hears(A).hears(B).lives(until=60, answering=(A, B))
        assert node.told() == [("alive", A), ("alive", B)]
        assert node.core.health == 0

    def test_who_does_not_is_suspected_and_then_down_within_bounds(self) -> None:
        node = Node(A, B).hears(A).hears(B).lives(until=30, answering=(B,))
        events = [event for event in node.core.events() if event.member == A]
        assert [event.kind for event in events] == ["alive", "suspected", "down"]
        assert events[1].at <= 3 * PERIOD + PERIOD
        assert events[2].at - events[1].at == pytest.approx(8.0)
        assert events[2].reason == "no answer, and it did not object"

    def test_a_late_ping_asks_others_and_once_more_itself(self) -> None:
        node = Node(A, B, C, D, VAULT)
        for other in (A, B, C, D, VAULT):
            node.hears(other)
        node.lives(until=0.0)
        asked: dict[str, list[str]] = {}
        while not any(kinds.count("ping-req") for kinds in asked.values()):
            node.core.tick(node.core.next_deadline() or 0.0)
            asked = {}
            for to, message in node.says():
                asked.setdefault(to, []).append(message.kind)
        helpers = [to for to, kinds in asked.items() if "ping-req" in kinds]
        assert len(helpers) == 3
        assert VAULT not in helpers

    def test_an_answer_through_a_helper_counts_as_indirect(self) -> None:
        node = Node(A, B).hears(A).hears(B)
        while True:
            node.now = node.core.next_deadline() or 0.0
            node.core.tick(node.now)
            requests = [(to, m) for to, m in node.says() if m.kind == "ping-req"]
            if requests:
                break
        helper, request = requests[0]
        target = request.subject
        node.hears(target, "gossip").hears(helper, "ack", sequence=request.sequence, subject=target)
        assert node.core.states()[target].via == "indirect"

    def test_an_ack_of_somebody_who_was_not_asked_counts_for_nothing(self) -> None:
        node = Node(A, B).hears(A).hears(B)
        node.says()
        node.lives(until=0.0)
        pinged: list[tuple[str, Message]] = []
        while not pinged:
            node.now = node.core.next_deadline() or 0.0
            node.core.tick(node.now)
            pinged = [(to, m) for to, m in node.says() if m.kind == "ping"]
        target, ping = pinged[0]
        other = B if target == A else A
        node.hears(other, "ack", sequence=ping.sequence, subject=target).lives(until=15, answering=(other,))
        assert node.state(target) in ("suspect", "down")

    def test_a_helper_passes_the_ack_on_and_says_in_time_that_it_has_none(self) -> None:
        node = Node(A, B).hears(A).hears(B)
        node.says()
        ((to, ping),) = node.hears(A, "ping-req", sequence=7, subject=B).says()
        assert (to, ping.kind) == (B, "ping")
        nacks: list[Message] = []
        while not nacks and node.now < PERIOD:
            node.now = node.core.next_deadline() or PERIOD
            node.core.tick(node.now)
            nacks = [m for to, m in node.says() if (to, m.kind) == (A, "nack")]
        assert (nacks[0].sequence, nacks[0].subject) == (7, B)
        assert node.now < SwimConfig().probe_timeout_max
        acks = [m for to, m in node.hears(B, "ack", sequence=ping.sequence).says() if to == A]
        assert [(m.kind, m.sequence, m.subject) for m in acks] == [("ack", 7, B)]

    def test_who_hears_nobody_blames_himself_first_and_waits_longer(self) -> None:
        node = Node(A, B, C, D)
        for other in (A, B, C, D):
            node.hears(other)
        node.lives(until=20)
        assert node.core.health >= 3
        assert "down" not in {node.state(other) for other in (A, B, C, D)}

    def test_a_core_that_was_asleep_gives_everybody_new_time(self) -> None:
        node = Node(A).hears(A).lives(until=5)
        assert node.state(A) == "suspect"
        node.core.tick(1000.0)
        assert node.state(A) == "suspect"
        assert node.core.health > 0


class TestSuspicion:
    def test_ours_is_refuted_at_once_by_a_higher_incarnation(self) -> None:
        node = Node(A).hears(A)
        node.says()
        ((_, ack),) = node.hears(A, "ping", suspect(ME, A, 0), sequence=1).says()
        assert ack.incarnation == node.core.incarnation == 1
        assert Update("alive", ME, 1, ME) in ack.updates
        assert node.core.health == 1

    def test_one_of_a_former_run_is_answered_above_it(self) -> None:
        assert Node(A, incarnation=1).hears(A, "ping", suspect(ME, A, 7)).core.incarnation == 8
        assert Node(A, incarnation=1).hears(A, "ping", alive(ME, 7)).core.incarnation == 8
        assert Node(A, incarnation=7).hears(A, "ping", left(ME, 7)).core.incarnation == 8

    def test_a_stale_one_is_not(self) -> None:
        assert Node(A, incarnation=9).hears(A, "ping", suspect(ME, A, 8), alive(ME, 9)).core.incarnation == 9

    def test_an_absurd_one_cannot_take_our_voice(self) -> None:
        node = Node(A).hears(A, "ping", suspect(ME, A, 2**32 - 1))
        assert node.core.incarnation == 0
        assert node.hears(A, "ping", suspect(ME, A, MAX_INCARNATION)).core.incarnation == 2**32 - 1
        node.says()

    def test_of_another_is_believed_passed_on_and_ended_by_its_word(self) -> None:
        node = Node(A, B).hears(B, incarnation=1).hears(A, "gossip", suspect(B, A, 1))
        assert node.state(B) == "suspect"
        (ack,) = [m for to, m in node.hears(A, "ping").says() if to == A]
        assert suspect(B, A, 1) in ack.updates
        node.hears(A, "gossip", alive(B, 2))
        assert node.state(B) == "alive"

    def test_its_subject_hears_of_it_first_of_all(self) -> None:
        node = Node(A, B).hears(B).hears(A, "gossip", suspect(B, A))
        node.says()
        ((_, ack),) = node.hears(B, "ping").says()
        assert ack.updates[0] == suspect(B, ME)

    def test_ends_sooner_when_others_confirm_it(self) -> None:
        others = (A, B, C, D)
        ends = []
        for voices in ([A], [A, A, A], [A, B]):  # and our own, as soon as we miss it too
            node = Node(*others, "e" * 16)
            for other in (*others, "e" * 16):
                node.hears(other)
            for voice in voices:
                node.hears(voice, "gossip", suspect(D, voice))
            node.told()
            node.lives(until=60, answering=(A, B, C, "e" * 16))
            (down,) = [e for e in _events(node) if e.kind == "down"]
            ends.append(round(down.at, 1))
        assert ends == [22.8, 22.8, 8.0]

    @pytest.mark.parametrize("claim", ["suspect", "left", "alive"])
    def test_a_vault_is_not_heard_on_others(self, claim: str) -> None:
        node = Node(A, VAULT)
        if claim != "alive":
            node.hears(A)
        before = node.state(A)
        by = VAULT if claim == "suspect" else A
        node.hears(VAULT, "gossip", Update(claim, A, 5, by), suspect(ME, VAULT, 5))  # type: ignore[arg-type]
        node.hears(VAULT, "ping-req", subject=A)
        assert node.state(A) == before
        assert node.core.incarnation == 0
        assert A not in [to for to, _ in node.says()]

    @pytest.mark.parametrize(
        "lie", [Update("alive", A, 9, B), Update("left", A, 9, B), suspect(A, A, 9), suspect(A, "x" * 16, 9)]
    )
    def test_nonsense_about_others_changes_nothing(self, lie: Update) -> None:
        node = Node(A, B).hears(A).hears(B, "gossip", lie)
        assert node.state(A) == "alive"
        assert node.core.states()[A].incarnation == 0


def _events(node: Node) -> list[Event]:
    return [event for event in node.core.events() if event.at > 0]


class TestDown:
    def down(self, *others: str) -> Node:
        node = Node(A, *others)
        for other in (A, *others):
            node.hears(other)
        node.lives(until=70, answering=others)
        assert node.state(A) == "down"
        node.told()
        return node

    def test_is_never_told_to_others(self) -> None:
        node = self.down(B)
        for _, message in node.hears(B, "ping").says():
            assert A not in [update.about for update in message.updates]

    def test_is_redialled_forever_with_growing_pauses_up_to_five_minutes(self) -> None:
        node = self.down()
        pings: list[float] = []
        while node.now < 4 * 3600:
            node.now = node.core.next_deadline() or 0.0
            node.core.tick(node.now)
            pings += [node.now for to, m in node.says() if (to, m.kind) == (A, "ping")]
        pauses = [b - a for a, b in zip(pings[::2], pings[2::2], strict=False)]  # each dial pings twice
        assert max(pauses) <= 300
        assert min(pauses[5:]) >= 150
        assert pauses[0] <= 130

    def test_ends_when_a_redial_is_answered(self) -> None:
        node = self.down().lives(until=200, answering=(A,))
        assert node.told() == [("alive", A)]

    def test_a_sign_of_life_brings_the_redial_forward(self) -> None:
        node = self.down()
        node.lives(until=4000).hears(A, "gossip")
        assert node.state(A) == "down"
        node.lives(until=4000 + SOON, answering=(A,))
        assert node.state(A) == "alive"

    def test_a_rumour_of_life_does_too(self) -> None:
        node = self.down(B).lives(until=4000, answering=(B,)).hears(B, "gossip", alive(A))
        assert node.state(A) == "down"
        assert node.lives(until=4000 + SOON, answering=(A, B)).state(A) == "alive"

    def test_signs_of_life_that_lead_nowhere_do_not_make_us_ring_without_pause(self) -> None:
        node = self.down().lives(until=4000)
        for tenth in range(300):
            node.hears(A, "gossip").lives(until=4000 + tenth / 10)
            node.says()
        starts = sum(1 for e in node.told() if e[0] == "alive")
        assert starts == 0
        assert (node.core.next_deadline() or 0) > node.now

    def test_it_hears_what_is_held_against_it(self) -> None:
        node = self.down()
        ((_, ack),) = [(to, m) for to, m in node.hears(A, "ping").says() if m.kind == "ack"]
        assert suspect(A, ME) in ack.updates
        node.hears(A, "gossip", incarnation=1)
        assert node.state(A) == "alive"


class TestLeaving:
    def test_is_told_to_those_who_are_here_and_then_there_is_silence(self) -> None:
        node = Node(A, B, VAULT).hears(A).hears(VAULT)
        node.says()
        node.core.leave(1.0)
        said = node.says()
        assert sorted(to for to, _ in said) == [A, VAULT]
        assert all(m.updates == (left(ME),) for _, m in said)
        node.hears(A, "ping")
        node.core.leave(2.0)
        assert node.says() == []
        assert node.core.next_deadline() is None

    @pytest.mark.parametrize("who", [A, VAULT])
    def test_of_another_is_no_death_and_an_answer_on_the_way_out_does_not_undo_it(self, who: str) -> None:
        node = Node(who).hears(who)
        node.core.tick(0.2)
        node.hears(who, "gossip", left(who)).hears(who, "ack")
        assert node.told() == [("alive", who), ("left", who)]

    def test_the_next_run_is_alive_again(self) -> None:
        node = Node(A).hears(A, "gossip", left(A)).hears(A, "ping", incarnation=1)
        assert node.state(A) == "alive"

    def test_even_one_that_counts_from_zero_again_for_it_is_told(self) -> None:
        node = Node(A).hears(A, "gossip", left(A)).hears(A, "ping")
        ((_, ack),) = [(to, m) for to, m in node.says() if m.kind == "ack"]
        assert ack.updates[0] == left(A)

    def test_is_passed_on(self) -> None:
        node = Node(A, B).hears(A).hears(B).hears(A, "gossip", left(A))
        node.says()
        ((_, ack),) = node.hears(B, "ping").says()
        assert left(A) in ack.updates


class TestVault:
    """A quiet core."""

    def test_dials_probes_and_gossips_never(self) -> None:
        node = Node(A, B, quiet=True)
        assert node.core.next_deadline() is None
        node.hears(A, "ping", suspect(B, A), sequence=4)
        ((to, ack),) = node.says()
        assert (to, ack.kind, ack.sequence, ack.updates) == (A, "ack", 4, ())
        node.hears(A, "ping-req", subject=B)
        node.lives(until=1000)
        assert node.says() == []

    def test_objects_to_a_suspicion_of_itself(self) -> None:
        ((_, ack),) = Node(A, quiet=True).hears(A, "ping", suspect(ME, A, 3)).says()
        assert ack.incarnation == 4

    def test_hears_nothing_about_others_from_us(self) -> None:
        node = Node(A, VAULT).hears(A).hears(VAULT, "ping")
        node.hears(A, "gossip", suspect(VAULT, A))
        node.hears(VAULT, "ping")
        about = {update.about for to, m in node.says() for update in m.updates if to == VAULT}
        assert about == {VAULT}

    def test_sees_one_that_left_come_back_though_it_counts_from_zero(self) -> None:
        node = Node(A, quiet=True).hears(A, "gossip", left(A))
        assert node.state(A) == "left"
        assert node.hears(A, "ping").state(A) == "alive"

    def test_takes_who_is_silent_for_a_minute_for_down_until_it_is_heard_again(self) -> None:
        node = Node(A, B, quiet=True).hears(A).lives(until=50).hears(A, "ping")
        node.lives(until=105)
        assert node.state(A) == "alive"
        node.lives(until=111)
        assert (node.state(A), node.state(B)) == ("down", "unknown")
        assert node.hears(A, "ping").state(A) == "alive"
