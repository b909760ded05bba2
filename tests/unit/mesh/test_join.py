"""The join: both machines talk to each other as JSON; each is also talked to by a liar."""

import copy
import json
import random
from dataclasses import dataclass, field, replace

import pytest

from mesh.codec import Malformed, from_base64, to_base64
from mesh.identity import Identity, mesh_id
from mesh.invite import Accept, BadInvite, Invite, judge, long_invite_id
from mesh.join import Bound, Finished, Issuer, Joiner, Keep, Redeem, Refused, Send, Welcomed
from mesh.objects import Admission, Genesis, Kind, Record, Report, Tombstone, open_signed, sign
from mesh.trust import Trust

GENESIS = Identity.from_seed(b"g" * 32)
MESH = mesh_id(GENESIS.public)
HOME, NAS, NEW, RIVAL = (Identity.from_seed(letter * 32) for letter in (b"h", b"n", b"w", b"r"))
NOW = 2000
WIREGUARD = b"W" * 32
DOOR = b"D" * 32


def admission(issuer, node, name, role="member", **more):
    return sign(issuer, MESH, Admission(issuer.public, node.public, role, 1, bytes(8), name, **more)).data


def record(node, wireguard=WIREGUARD):
    value = Record(node.public, 1, b"bootboot", wireguard, DOOR, 51820, "meshkeep 0.1")
    return sign(node, MESH, value).data


def usual(*more):
    trust = Trust(MESH)
    trust.add(sign(GENESIS, MESH, Genesis(GENESIS.public, "fog", 1)).data)
    for data in (admission(GENESIS, HOME, "home", "admin"), admission(HOME, NAS, "nas"), *more):
        trust.add(data)
    trust.add(record(HOME, b"H" * 32))
    return trust


def invite(role="vault", **more):
    return Invite(b"s" * 16, role, created=1000, expires=4600, **more)


@dataclass
class Home:
    """The issuer's host: its mesh, its book of invites, and what it kept on disk, in order."""

    trust: Trust = field(default_factory=usual)
    book: dict = field(default_factory=dict)
    log: list = field(default_factory=list)

    def issue(self, one):
        self.book[one.id] = one
        return one.token(MESH, DOOR, ())

    def issuer(self, id, now=NOW, nonce=b"i" * 16):
        return Issuer(HOME, self.trust, self.book.get(id), now, nonce)

    def redeem(self, id, node, now=NOW):
        verdict = judge(self.book.get(id), node, now)
        if isinstance(verdict, Accept):
            self.book[id] = verdict.invite
            self.log.append("used_by")
        return verdict

    def act(self, issuer, outputs):
        """Do what the shell does; the messages that leave, then what the dialogue ended in."""
        sent, end = [], None
        for output in outputs:
            if isinstance(output, Redeem):
                more, end = self.act(issuer, issuer.redeemed(self.redeem(output.invite_id, output.node)))
                sent += more
            elif isinstance(output, Keep):
                self.log.append("kept")
            elif isinstance(output, Send):
                self.log.append(output.message["kind"])
                sent.append(json.loads(json.dumps(output.message)))
            else:
                end = output
        return sent, end


@dataclass
class Dialogue:
    """One join from the first hello to its end. `tamper(message)` sits on the wire in both directions."""

    home: Home
    joiner: Joiner
    issuer: Issuer
    node: Identity = NEW
    tamper: object = None
    wireguard: bytes = WIREGUARD
    kept: tuple = ()
    welcomed: Welcomed | None = None
    ends: list = field(default_factory=list)

    def run(self):
        outbox = self.joined(self.joiner.start())
        while outbox:
            answers, end = [], None
            for message in outbox:
                sent, end = self.home.act(self.issuer, self.issuer.receive(self.wire(message)))
                answers += sent
                if end:
                    self.ends.append(end)
            outbox = [m for answer in answers for m in self.joined(self.joiner.receive(self.wire(answer)))]
        return self

    def wire(self, message):
        message = json.loads(json.dumps(message))
        return self.tamper(message) if self.tamper else message

    def joined(self, outputs):
        messages = []
        for output in outputs:
            if isinstance(output, Send):
                messages.append(output.message)
            elif isinstance(output, Keep):
                self.kept = output.objects
            elif isinstance(output, Welcomed):
                self.welcomed = output
                messages += self.joined(self.joiner.record(record(self.node, self.wireguard)))
            else:
                self.ends.append(output)
        return messages

    @property
    def refusal(self):
        return next((end for end in self.ends if isinstance(end, Refused)), None)


def join(home, token, *, name=None, node=NEW, tamper=None, now=NOW, **more):
    joiner = Joiner(node, WIREGUARD, token, name, b"j" * 16, now)
    return Dialogue(home, joiner, home.issuer(token.id), node, tamper, **more).run()


class TestSuccess:
    @pytest.mark.parametrize("role", ["admin", "member", "vault", "client"])
    def test_the_new_node_is_in_and_both_know_it(self, role):
        home = Home()
        done = join(home, home.issue(invite(role)), name="cloud")
        assert done.ends == [Finished(NEW.id), Finished(NEW.id)]
        assert done.welcomed == Welcomed("cloud", role, HOME.id)
        mine = Trust(MESH)
        for data in done.kept:
            mine.add(data)
        for view in (mine.view(), home.trust.view()):
            assert view.by_name("cloud").id == NEW.id
            assert view.by_name("cloud").role == role
        assert home.trust.view().by_name("cloud").record.wireguard_public == WIREGUARD

    def test_use_then_admission_are_durable_before_the_welcome_leaves(self):
        home = Home()
        join(home, home.issue(invite()), name="cloud")
        assert home.log == ["challenge", "used_by", "kept", "welcome", "kept", "done"]

    def test_the_invite_may_name_the_node(self):
        home = Home()
        token = home.issue(invite(name="cloud"))
        assert join(home, token).welcomed.name == "cloud"

    def test_a_vault_is_given_no_report_and_no_record_of_a_client(self):
        tv = Identity.from_seed(b"t" * 32)
        trust = usual(admission(HOME, tv, "tv", "client"), record(tv, b"T" * 32))
        trust.add(sign(HOME, MESH, Report(HOME.public, 1, b"{}")).data)
        home = Home(trust)
        kinds = [open_signed(data, MESH) for data in join(home, home.issue(invite()), name="cloud").kept]
        assert {o.author for o in kinds if o.type == Kind.RECORD} == {HOME.id}
        assert not [o for o in kinds if o.type == Kind.REPORT]

    def test_a_lost_answer_is_asked_for_again(self):
        home = Home()
        token = home.issue(invite())
        first = join(home, token, name="cloud", tamper=lambda m: {} if m["kind"] == "welcome" else m)
        assert first.welcomed is None
        second = join(home, token, name="cloud")
        assert second.welcomed is not None
        admissions = [o for o in home.trust.objects(Kind.ADMISSION) if o.value.node_public == NEW.public]
        assert len(admissions) == 1


class TestSuccession:
    def test_the_new_node_takes_name_and_roots(self):
        home = Home()
        done = join(home, home.issue(invite("member", succeeds=NAS.id)))
        view = home.trust.view()
        assert done.welcomed.name == "nas"
        assert view.by_name("nas").id == NEW.id
        assert view.may_read_root(NEW.id, NAS.id)

    def test_an_admin_replaces_itself_and_keeps_whom_it_admitted(self):
        home = Home()
        token = home.issue(invite("admin", succeeds=HOME.id))
        done = join(home, token)
        view = home.trust.view()
        assert done.ends == [Finished(NEW.id), Finished(NEW.id)]
        assert view.by_name("home").id == NEW.id
        assert view.by_name("nas").active

    def test_a_node_that_is_succeeded_already_is_not_succeeded_again(self):
        home = Home()
        join(home, home.issue(invite("member", succeeds=NAS.id)))
        token = home.issue(replace(invite("member", succeeds=NAS.id), secret=b"2" * 16))
        assert join(home, token, node=RIVAL).refusal.code == "cannot_succeed"

    def test_an_unknown_one_cannot_be_succeeded(self):
        home = Home()
        assert join(home, home.issue(invite("member", succeeds=RIVAL.id))).refusal.code == "cannot_succeed"


class TestRefusals:
    """Each says which, says what to try, and changes nothing."""

    def refused(self, home, token, code, **more):
        before = home.trust.view(), copy.deepcopy(home.book)
        done = join(home, token, **more)
        assert done.refusal.code == code
        assert done.welcomed is None
        assert (home.trust.view(), home.book) == before
        assert "used_by" not in home.log
        return done.refusal

    @pytest.mark.parametrize(
        ("change", "code"),
        [({"revoked": True}, "revoked"), ({"used_by": RIVAL.id}, "used"), ({"expires": 1500}, "expired")],
    )
    def test_of_an_invite_that_is_no_longer_good(self, change, code):
        home = Home()
        token = home.issue(invite())
        home.book[token.id] = replace(invite(), **change)
        assert "meshkeep invite" in self.refused(home, token, code, name="cloud").hint

    def test_of_an_invite_from_elsewhere(self):
        self.refused(Home(), invite().token(MESH, DOOR, ()), "unknown", name="cloud")

    def test_of_a_name_that_is_taken(self):
        home = Home()
        refusal = self.refused(home, home.issue(invite()), "name_taken", name="nas")
        assert refusal.hint == "--name OTHER"
        assert join(home, home.issue(invite()), name="cloud").welcomed

    def test_of_no_name(self):
        home = Home()
        self.refused(home, home.issue(invite()), "name_missing")

    def test_of_another_name_than_the_invites(self):
        home = Home()
        self.refused(home, home.issue(invite(name="cloud")), "name_fixed", name="other")

    def test_of_a_node_that_was_evicted(self):
        home = Home(usual(sign(HOME, MESH, Tombstone(HOME.public, NAS.public, 1)).data))
        self.refused(home, home.issue(invite()), "node_evicted", node=NAS, name="cloud")

    def test_of_a_node_that_is_in_already(self):
        home = Home()
        self.refused(home, home.issue(invite()), "already_member", node=NAS, name="cloud")

    def test_of_the_genesis_key(self):
        home = Home()
        self.refused(home, home.issue(invite()), "bad_key", node=GENESIS, name="cloud")

    def test_by_an_issuer_that_is_out_itself(self):
        home = Home(usual(sign(GENESIS, MESH, Tombstone(GENESIS.public, HOME.public, 1)).data))
        self.refused(home, home.issue(invite()), "not_admin", name="cloud")

    def test_an_expired_or_badly_named_join_does_not_even_begin(self):
        with pytest.raises(BadInvite):
            Joiner(NEW, WIREGUARD, invite().token(MESH, DOOR, ()), "cloud", b"j" * 16, 4600)
        with pytest.raises(Malformed):
            Joiner(NEW, WIREGUARD, invite().token(MESH, DOOR, ()), "Cloud!", b"j" * 16, NOW)


class TestTwoAtOnce:
    def race(self, home, token, names, order):
        """Two joins in lockstep; `order` says whose turn it is. The messages they end with."""
        nodes = [NEW, RIVAL]
        joiners = [
            Joiner(n, WIREGUARD, token, name, b"j" * 16, NOW) for n, name in zip(nodes, names, strict=True)
        ]
        issuers = [home.issuer(token.id), home.issuer(token.id, nonce=b"k" * 16)]
        boxes = [[o.message for o in joiner.start()] for joiner in joiners]
        last = [None, None]
        for turn in order:
            if not boxes[turn]:
                continue
            answers, _ = home.act(issuers[turn], issuers[turn].receive(boxes[turn].pop()))
            for answer in answers:
                last[turn] = answer
                outputs = joiners[turn].receive(answer)
                boxes[turn] += [o.message for o in outputs if isinstance(o, Send)]
        return last

    def test_exactly_one_wins_in_every_order(self):
        rng = random.Random(7)
        for _ in range(50):
            home = Home()
            order = [0] * 4 + [1] * 4
            rng.shuffle(order)
            last = self.race(home, home.issue(invite()), ["one", "two"], order)
            assert sorted(message["kind"] for message in last) == ["refusal", "welcome"]
            loser = next(message for message in last if message["kind"] == "refusal")
            assert loser["code"] == "used"
            assert len({NEW.id, RIVAL.id} & set(home.trust.view().members)) == 1


class TestLiars:
    def forge(self, kind, key, value):
        def tamper(message):
            if message["kind"] == kind:
                message[key] = value(message[key]) if callable(value) else value
            return message

        return tamper

    @pytest.mark.parametrize(
        ("kind", "key", "value"),
        [
            ("hello", "node", to_base64(RIVAL.public)),
            ("hello", "wireguard", to_base64(b"X" * 32)),
            ("hello", "name", "other"),
            ("hello", "nonce", to_base64(b"X" * 16)),
            ("challenge", "nonce", to_base64(b"X" * 16)),
            ("challenge", "issuer", to_base64(NAS.public)),
            ("challenge", "signature", to_base64(bytes(64))),
            ("challenge", "objects", []),
            ("challenge", "objects", lambda objects: objects[:1]),
            ("challenge", "objects", lambda objects: objects[1:]),
            ("proof", "signature", to_base64(bytes(64))),
            ("proof", "signature", None),
        ],
    )
    def test_nothing_bound_can_be_changed_on_the_way(self, kind, key, value):
        home = Home()
        done = join(home, home.issue(invite()), name="cloud", tamper=self.forge(kind, key, value))
        assert done.refusal is not None
        assert done.welcomed is None
        assert "used_by" not in home.log
        assert NEW.id not in home.trust.view().members

    @pytest.mark.parametrize(
        "objects",
        [
            [],
            ["!"],
            "all",
            [to_base64(b"junk")],
            lambda all: [o for o in all if NEW.public not in from_base64(o)],
        ],
    )
    def test_a_welcome_without_a_standing_admission_is_not_believed(self, objects):
        home = Home()
        tamper = self.forge("welcome", "objects", objects)
        done = join(home, home.issue(invite()), name="cloud", tamper=tamper)
        assert done.refusal.code == "bad_issuer"
        assert done.kept == ()

    def test_a_welcome_in_another_role_or_name_is_not_believed(self):
        for role, name in (("client", "cloud"), ("vault", "other")):
            data = admission(HOME, NEW, name, role)
            trust = usual(data)
            objects = [to_base64(item.data) for item in trust.all_signed()]
            home = Home()
            tamper = self.forge("welcome", "objects", objects)
            assert join(home, home.issue(invite()), name="cloud", tamper=tamper).refusal.code == "bad_issuer"

    def test_an_issuer_of_another_mesh_is_not_believed(self):
        other = Identity.from_seed(b"o" * 32)
        home = Home()
        token = replace(home.issue(invite()), mesh_id=mesh_id(other.public))
        assert join(home, token, name="cloud").refusal.code == "bad_issuer"

    def test_a_guest_without_the_secret_cannot_prove_anything(self):
        home = Home()
        token = home.issue(invite())
        home.book[token.id] = invite()
        issuer = Issuer(HOME, home.trust, home.book[token.id], NOW, b"i" * 16)
        hello = Joiner(NEW, WIREGUARD, token, "cloud", b"j" * 16, NOW).start()[0].message
        [challenge], _ = home.act(issuer, issuer.receive(hello))
        guess = Bound(
            MESH, b"guess" + bytes(11), NEW.public, WIREGUARD, "cloud", b"j" * 16, HOME.public, b"i" * 16
        )
        proof = {"kind": "proof", "signature": to_base64(NEW.sign(guess.transcript("node")))}
        _, end = home.act(issuer, issuer.receive(proof))
        assert end.code == "bad_message"
        assert challenge["kind"] == "challenge"

    def test_a_proof_is_no_good_in_another_dialogue(self):
        """Replay: the same joiner, the same invite, a new nonce of the issuer."""
        home, seen = Home(), []
        token = home.issue(invite())
        join(home, token, name="cloud", tamper=lambda m: seen.append(copy.deepcopy(m)) or m)
        hello, proof = (next(m for m in seen if m["kind"] == kind) for kind in ("hello", "proof"))
        issuer = home.issuer(token.id, nonce=b"2" * 16)
        assert home.act(issuer, issuer.receive(hello))[0][0]["kind"] == "challenge"
        assert home.act(issuer, issuer.receive(proof))[1].code == "bad_message"

    def test_the_issuers_signature_cannot_be_sent_back_as_a_proof(self):
        home, signature = Home(), []

        def reflect(message):
            if message["kind"] == "challenge":
                signature.append(message["signature"])
            if message["kind"] == "proof":
                message["signature"] = signature[0]
            return message

        done = join(home, home.issue(invite()), name="cloud", tamper=reflect)
        assert done.refusal.code == "bad_message"

    def test_a_record_with_another_wireguard_key_or_of_another_node_is_not_taken(self):
        home = Home()
        done = join(home, home.issue(invite()), name="cloud", wireguard=b"X" * 32)
        assert done.refusal.code == "bad_message"
        assert home.trust.view().by_name("cloud").record is None
        home = Home()
        swap = self.forge("record", "record", to_base64(record(NAS)))
        assert join(home, home.issue(invite()), name="cloud", tamper=swap).refusal.code == "bad_message"

    @pytest.mark.parametrize("message", [None, [], "hello", 7, {}, {"kind": []}, {"kind": "proof"}])
    def test_messages_of_no_kind_end_it_politely(self, message):
        home = Home()
        token = home.issue(invite())
        assert isinstance(home.issuer(token.id).receive(message)[-1], Refused)
        joiner = Joiner(NEW, WIREGUARD, token, "cloud", b"j" * 16, NOW)
        joiner.start()
        assert isinstance(joiner.receive(message)[-1], Refused)

    @pytest.mark.parametrize("value", [None, 7, [], "", "?", "\ud800", "A" * 100_000, {"a": 1}])
    @pytest.mark.parametrize("kind", ["hello", "challenge", "proof", "welcome", "record"])
    def test_no_field_of_no_message_breaks_either_side(self, kind, value):
        keys = {
            "hello": ["invite", "node", "wireguard", "name", "nonce"],
            "challenge": ["issuer", "nonce", "objects", "signature"],
            "proof": ["signature"],
            "welcome": ["objects"],
            "record": ["record"],
        }
        for key in keys[kind]:
            home = Home()
            done = join(home, home.issue(invite()), name="cloud", tamper=self.forge(kind, key, value))
            assert done.refusal is not None

    def test_messages_after_the_end_have_no_effect(self):
        home = Home()
        token = home.issue(invite())
        issuer = home.issuer(token.id)
        issuer.receive({})
        hello = Joiner(NEW, WIREGUARD, token, "cloud", b"j" * 16, NOW).start()[0].message
        assert isinstance(issuer.receive(hello)[-1], Refused)
        assert NEW.id not in home.trust.view().members


def test_an_admission_names_the_invite_it_came_from():
    home = Home()
    token = home.issue(invite())
    join(home, token, name="cloud")
    assert home.trust.view().by_name("cloud").invite_id == long_invite_id(token.secret)
