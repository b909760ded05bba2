"""Who is in the mesh. `Story` signs real objects under short names, so that a test reads as what happened."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.identity import Identity, mesh_id
from mesh.objects import Admission, Genesis, Kind, Record, Report, Tombstone, seal, sign
from mesh.trust import (
    MAX_PENDING,
    Added,
    Known,
    Rejected,
    Stale,
    Trust,
    View,
    Waiting,
)

_KEYS: dict[str, Identity] = {}


def key(name):
    if name not in _KEYS:
        _KEYS[name] = Identity.from_seed(name.encode().ljust(32, b"."))
    return _KEYS[name]


MESH = mesh_id(key("genesis").public)


class Story:
    """Signs objects; `view()` is what a node that knows all of them sees."""

    def __init__(self):
        self.data = {}
        self.clock = 1000
        self.add("mesh", Genesis(key("genesis").public, "fog", 1), by="genesis")

    def add(self, label, value, by):
        signed = sign(key(by), MESH, value)
        self.data[label] = signed.data
        return signed.oid

    def admit(self, node, by, role="admin", *, name=None, at=None, succeeds=None, keep=()):
        self.clock += 1
        value = Admission(
            issuer_public=key(by).public,
            node_public=key(node).public,
            role=role,
            created=at if at is not None else self.clock,
            invite_id=bytes(8),
            name=name or node,
            succeeds=key(succeeds).public if succeeds else None,
            keep=tuple(sorted(keep)),
        )
        return self.add(f"{by} admits {node} {self.clock}", value, by)

    def evict(self, node, by, keep=(), at=None):
        self.clock += 1
        value = Tombstone(
            key(by).public, key(node).public, at if at is not None else self.clock, 0, tuple(sorted(keep))
        )
        return self.add(f"{by} evicts {node} {self.clock}", value, by)

    def says(self, node, version, boot=b"bootboot", port=51820):
        self.clock += 1
        return self.add(f"{node} says {self.clock}", record(node, version, boot, port), node)

    def view(self, order=None):
        trust = Trust(MESH)
        for data in order or self.data.values():
            trust.add(data)
        return trust.view()


def record(node, version, boot=b"bootboot", port=51820, wireguard=None):
    public = key(node).public
    return Record(public, version, boot, wireguard or public[::-1], public, port, "meshkeep 0.1")


def usual():
    """genesis -> home -> {laptop, office: admins, cloud: vault, tv: client, nas: member}; office -> desk"""
    story = Story()
    story.admit("home", "genesis")
    story.admit("laptop", "home")
    story.admit("office", "home")
    story.admit("cloud", "home", "vault")
    story.admit("tv", "home", "client")
    story.admit("nas", "home", "member")
    story.admit("desk", "office")
    return story


def active(view: View):
    return {member.name for member in view.active()}


def state(view: View, name):
    member = view.members.get(key(name).id)
    return member.state if member else None


class TestAdmission:
    def test_whom_admins_admit_is_in_the_mesh(self):
        view = usual().view()
        assert active(view) == {"home", "laptop", "office", "cloud", "tv", "nas", "desk"}
        assert view.mesh_name == "fog"
        assert view.by_name("desk").admitted_by == key("office").id
        assert view.by_name("home").admitted_by is None

    @pytest.mark.parametrize("issuer", ["cloud", "tv", "nas", "stranger"])
    def test_nobody_else_admits(self, issuer):
        story = usual()
        story.admit("puppet", issuer)
        assert "puppet" not in active(story.view())

    def test_two_that_admit_each_other_are_not_in_the_mesh(self):
        story = usual()
        story.admit("one", "two")
        story.admit("two", "one")
        assert not {"one", "two"} & active(story.view())

    def test_another_meshs_genesis_admits_nobody_here(self):
        story = usual()
        story.admit("puppet", "another genesis")
        assert "puppet" not in active(story.view())

    def test_of_two_admissions_the_more_trusted_role_counts_and_nobody_is_demoted(self):
        story = usual()
        story.admit("office", "laptop", "client", name="renamed", at=1)
        assert story.view().by_name("office").role == "admin"

    def test_the_chain_leads_from_the_founder_to_the_node(self):
        story = usual()
        view = story.view()
        assert len(view.chain(key("desk").id)) == 3
        alone = Trust(MESH)
        for data in view.chain(key("desk").id):
            assert isinstance(alone.add(data), Added)
        assert active(alone.view()) == {"home", "office", "desk"}


class TestEviction:
    def test_an_admin_evicts_any_non_admin(self):
        story = usual()
        story.evict("nas", "desk")
        view = story.view()
        assert state(view, "nas") == "evicted"
        assert view.may_evict(key("desk").id, key("tv").id)

    @pytest.mark.parametrize(
        ("admin", "target"), list(itertools.permutations(["home", "laptop", "office", "desk"], 2))
    )
    def test_an_admin_evicts_exactly_the_admins_below_it(self, admin, target):
        story = usual()
        story.evict(target, admin)
        below = {("home", "laptop"), ("home", "office"), ("home", "desk"), ("office", "desk")}
        assert (state(story.view(), target) == "evicted") == ((admin, target) in below)
        assert usual().view().may_evict(key(admin).id, key(target).id) == ((admin, target) in below)

    @pytest.mark.parametrize("target", ["home", "laptop", "office", "desk", "cloud", "tv", "nas"])
    def test_the_recovery_key_evicts_anyone(self, target):
        story = usual()
        story.evict(target, "genesis")
        assert state(story.view(), target) in ("evicted", None)
        assert target not in active(story.view())

    @pytest.mark.parametrize("issuer", ["cloud", "tv", "nas", "stranger"])
    def test_nobody_else_evicts(self, issuer):
        story = usual()
        for target in ("home", "cloud", "nas", "tv", "desk"):
            story.evict(target, issuer)
        assert active(story.view()) == active(usual().view())

    def test_nor_one_whose_admission_as_admin_is_void(self):
        story = usual()
        story.admit("nas", "laptop", "admin")
        story.evict("laptop", "home")
        story.evict("tv", "nas")
        view = story.view()
        assert view.by_name("nas").role == "member"
        assert state(view, "tv") == "active"

    def test_evicting_an_admin_voids_what_it_issued(self):
        story = usual()
        story.evict("nas", "office")
        story.evict("office", "home")
        view = story.view()
        assert state(view, "desk") is None
        assert state(view, "nas") == "active"

    def test_but_not_what_is_in_the_keep_list(self):
        story = usual()
        gone = story.evict("nas", "office")
        desk = next(m for m in story.view().members.values() if m.name == "desk")
        kept = story.view().issued_by(key("office").id)
        assert gone in kept
        assert len(kept) == 2
        story.evict("office", "home", keep=kept)
        view = story.view()
        assert view.members[desk.id].state == "active"
        assert state(view, "nas") == "evicted"
        story.admit("late", "office", at=1)
        assert state(story.view(), "late") is None, "a back-dated admission is not in the list"

    def test_an_evicted_node_does_not_come_back_by_a_record_or_a_new_admission(self):
        story = usual()
        story.evict("nas", "home")
        story.says("nas", 2**60)
        story.admit("nas", "laptop", "member", at=2**40)
        view = story.view()
        assert state(view, "nas") == "evicted"
        assert view.members[key("nas").id].record is None

    def test_not_even_by_a_promotion_that_an_evicted_admin_signed(self):
        story = usual()
        story.evict("nas", "desk")
        story.evict("laptop", "home")
        story.admit("nas", "laptop", "admin")
        assert state(story.view(), "nas") == "evicted"

    def test_and_an_admin_evicted_from_above_not_by_its_own_puppets(self):
        story = usual()
        story.admit("puppet", "laptop")
        story.evict("laptop", "home")
        story.admit("laptop", "puppet")
        story.admit("home", "puppet", "client", at=0)
        story.evict("home", "laptop")
        assert active(story.view()) == active(usual().view()) - {"laptop"}

    def test_two_that_evict_each_other_are_judged_by_the_tree(self):
        story = usual()
        story.evict("home", "laptop", at=0)
        story.evict("laptop", "home", at=2**40)
        assert state(story.view(), "home") == "active"
        assert state(story.view(), "laptop") == "evicted"

    def test_an_admin_whom_another_admin_admitted_too_needs_a_common_superior(self):
        story = usual()
        story.admit("desk", "laptop")
        assert not story.view().may_evict(key("office").id, key("desk").id)
        assert story.view().may_evict(key("home").id, key("desk").id)
        story.evict("desk", "office")
        assert state(story.view(), "desk") == "active"
        story.evict("desk", "home")
        assert state(story.view(), "desk") == "evicted"


class TestSuccession:
    def test_an_admin_below_replaces_the_founder_that_burned(self):
        story = usual()
        keep = story.view().issued_by(key("home").id)
        story.admit("home2", "laptop", name="home", succeeds="home", keep=keep)
        view = story.view()
        home, home2 = key("home").id, key("home2").id
        assert state(view, "home") == "succeeded"
        assert view.by_name("home").id == home2
        assert view.owner_of(home) == home2
        assert view.may_read_root(home2, home)
        assert not view.may_read_root(key("laptop").id, home)
        assert not view.may_read_root(home, home)
        assert active(view) == active(usual().view())

    def test_the_chain_of_its_issuer_stays_even_without_a_keep_list(self):
        story = usual()
        story.admit("home2", "desk", name="home", succeeds="home")
        assert active(story.view()) == {"home", "office", "desk"}

    def test_what_a_thief_signs_later_with_the_burned_key_is_void(self):
        story = usual()
        keep = story.view().issued_by(key("home").id)
        story.admit("home2", "laptop", name="home", succeeds="home", keep=keep)
        story.admit("evil", "home", at=1)
        story.admit("evil2", "evil", at=1)
        assert active(story.view()) == active(usual().view())

    def test_it_falls_with_its_issuer(self):
        story = usual()
        story.admit("puppet", "laptop", name="home", succeeds="home")
        story.evict("laptop", "home")
        view = story.view()
        assert state(view, "home") == "active"
        assert state(view, "puppet") is None
        assert active(view) == active(usual().view()) - {"laptop"}

    def test_a_stolen_laptop_cannot_undo_its_eviction_by_succeeding_its_evictor(self):
        story = usual()
        story.evict("desk", "office")
        before = active(story.view())
        story.admit("puppet", "desk", name="office", succeeds="office", at=0)
        story.admit("puppet2", "desk", name="home", succeeds="home", at=0)
        assert active(story.view()) == before

    def test_an_admin_may_replace_itself(self):
        story = usual()
        story.admit("laptop2", "laptop", name="laptop", succeeds="laptop")
        view = story.view()
        assert state(view, "laptop") == "succeeded"
        assert view.by_name("laptop").id == key("laptop2").id

    def test_heirs_form_a_line(self):
        story = usual()
        story.admit(
            "home2", "laptop", name="home", succeeds="home", keep=story.view().issued_by(key("home").id)
        )
        story.admit("home3", "laptop", name="home", succeeds="home2")
        view = story.view()
        assert view.owner_of(key("home").id) == key("home3").id
        assert view.may_read_root(key("home3").id, key("home").id)
        assert not view.may_read_root(key("home2").id, key("home").id)

    def test_of_two_rivals_the_earlier_wins_and_the_other_is_named(self):
        story = usual()
        story.admit("late", "laptop", name="nas", succeeds="nas", at=5001)
        story.admit("early", "office", name="nas", succeeds="nas", at=5000)
        view = story.view()
        assert view.by_name("nas").id == key("early").id
        assert state(view, "late") is None
        [conflict] = view.conflicts
        assert (conflict.kind, conflict.winner, conflict.loser) == (
            "succession", key("early").id, key("late").id,
        )  # fmt: skip

    @pytest.mark.parametrize("count", [2, 3, 4])
    def test_a_circle_of_heirs_is_broken(self, count):
        story = usual()
        ring = [f"ring{i}" for i in range(count)]
        for one, following in zip(ring, ring[1:] + ring[:1], strict=True):
            story.admit(following, "laptop", "member", succeeds=one)
        view = story.view()
        for one in ring:
            view.owner_of(key(one).id)
        assert sum(m.succeeded_by is not None for m in view.members.values()) < count

    def test_two_that_void_each_other_are_settled_by_date(self):
        story = usual()
        story.admit("new laptop", "office", name="laptop2", succeeds="laptop", at=5001)
        story.admit("new office", "laptop", name="office2", succeeds="office", at=5000)
        view = story.view()
        assert state(view, "office") == "succeeded"
        assert state(view, "new office") == "active"
        assert state(view, "laptop") == "active"
        assert state(view, "new laptop") is None

    def test_one_that_nothing_depends_on_does_not_win_by_an_early_date(self):
        """evil stands only by what laptop's succession voids; its own back-dated one falls with it."""
        story = usual()
        keep = story.view().issued_by(key("home").id)
        story.admit("evil", "home", at=1)
        story.admit("puppet", "evil", "member", name="nas2", succeeds="nas", at=1)
        story.admit("home2", "laptop", name="home", succeeds="home", keep=keep)
        view = story.view()
        assert state(view, "nas") == "active"
        assert state(view, "puppet") is None

    def test_the_recovery_key_replaces_the_founder(self):
        story = usual()
        keep = story.view().issued_by(key("home").id)
        story.admit("home2", "genesis", name="home", succeeds="home", keep=keep)
        assert active(story.view()) == active(usual().view())
        story.evict("laptop", "home")
        story.admit("evil", "home")
        view = story.view()
        assert active(view) == active(usual().view()), "the stolen key neither admits nor evicts"
        assert view.by_name("home").id == key("home2").id

    def test_an_evicted_node_may_be_succeeded(self):
        story = usual()
        story.evict("nas", "home")
        story.admit("nas2", "laptop", "member", name="nas", succeeds="nas")
        view = story.view()
        assert state(view, "nas") == "evicted"
        assert view.may_read_root(key("nas2").id, key("nas").id)


class TestNames:
    def test_of_two_nodes_of_one_name_one_is_active_and_the_other_is_named(self):
        story = usual()
        story.admit("second", "laptop", "member", name="nas")
        view = story.view()
        assert view.by_name("nas").id == key("nas").id
        assert state(view, "second") == "conflict"
        assert [(c.kind, c.subject, c.loser) for c in view.conflicts] == [("name", "nas", key("second").id)]

    def test_nobody_below_takes_a_name_by_an_early_date(self):
        story = usual()
        story.admit("puppet", "desk", name="home", at=0)
        assert story.view().by_name("home").id == key("home").id

    def test_a_wireguard_key_belongs_to_the_senior(self):
        story = usual()
        story.add("1", record("nas", 1, wireguard=key("home").public[::-1]), "nas")
        story.says("home", 1)
        view = story.view()
        assert view.by_name("home").record is not None
        assert view.by_name("nas").record is None
        assert [c.kind for c in view.conflicts] == ["wireguard_key"]


class TestRecords:
    def test_the_highest_version_counts(self):
        story = usual()
        trust = Trust(MESH)
        for data in story.data.values():
            trust.add(data)
        for version, expected in [(5, Added), (4, Stale), (5, Known), (6, Added), (5, Stale)]:
            data = sign(key("nas"), MESH, record("nas", version)).data
            assert isinstance(trust.add(data), expected)
        assert trust.view().by_name("nas").record.version == 6

    def test_one_version_that_says_two_things_is_a_cloned_host(self):
        story = usual()
        story.says("nas", 5, boot=b"original")
        story.says("nas", 5, boot=b"the copy")
        [duplicate] = story.view().duplicates
        assert duplicate.id == key("nas").id
        assert set(duplicate.boots) == {b"original".hex(), b"the copy".hex()}

    def test_whichever_of_the_two_comes_first_the_same_one_is_shown(self):
        story = usual()
        for boot in (b"original", b"the copy", b"a third."):
            story.says("nas", 5, boot=boot)
        orders = itertools.permutations(list(story.data.values())[-3:])
        assert len({str(story.view([*story.data.values()][:-3] + list(order))) for order in orders}) == 1

    def test_a_strangers_record_is_not_stored(self):
        trust = Trust(MESH)
        assert isinstance(trust.add(sign(key("stranger"), MESH, record("stranger", 1)).data), Waiting)
        assert list(trust.all_signed()) == []

    def test_the_table_of_those_that_wait_is_bounded(self):
        trust = Trust(MESH)
        for version in range(MAX_PENDING + 50):
            trust.add(sign(key("stranger"), MESH, record("stranger", version)).data)
        assert len(trust._pending) == MAX_PENDING

    def test_garbage_is_rejected_with_a_reason(self):
        assert isinstance(Trust(MESH).add(b"garbage"), Rejected)

    def test_an_object_of_an_unknown_type_is_carried_on(self):
        story = usual()
        data = seal(key("nas"), MESH, 77, key("nas").public + b"from the future")
        trust = Trust(MESH)
        for each in [data, *story.data.values()]:
            trust.add(each)
        assert data in [item.data for item in trust.all_signed()]


class TestWhoSeesWhat:
    @pytest.fixture
    def trust(self):
        story = usual()
        story.evict("desk", "office")
        for node in ("home", "nas", "cloud", "tv", "desk"):
            story.says(node, 1)
            story.add(f"{node} report", Report(key(node).public, 1, b"{}"), node)
        story.data["future"] = seal(key("nas"), MESH, 77, key("nas").public)
        trust = Trust(MESH)
        for data in story.data.values():
            trust.add(data)
        return trust

    def seen(self, trust, viewer, *kinds, served=()):
        view = trust.view()
        member = view.by_name(viewer)
        names = {m.id: m.name for m in view.members.values()}
        return {names[i.author] for i in trust.objects(*kinds) if view.visible(i, member, served)}

    def test_everyone_gets_what_trust_is_made_of(self, trust):
        kinds = Kind.GENESIS, Kind.ADMISSION, Kind.TOMBSTONE
        view = trust.view()
        for member in view.active():
            assert all(view.visible(item, member) for item in trust.objects(*kinds))

    def test_a_vault_gets_the_records_of_admins_and_members_and_the_reports_of_whom_it_serves(self, trust):
        assert self.seen(trust, "cloud", Kind.RECORD) == {"home", "nas", "cloud"}
        assert self.seen(trust, "cloud", Kind.REPORT, served={key("home").id}) == {"home", "cloud"}
        assert self.seen(trust, "cloud", 77) == set()

    def test_a_client_gets_everything_but_reports(self, trust):
        assert self.seen(trust, "tv", Kind.RECORD) == {"home", "nas", "cloud", "tv"}
        assert self.seen(trust, "tv", Kind.REPORT) == {"tv"}

    def test_a_member_gets_everything_of_those_who_are_in(self, trust):
        assert self.seen(trust, "nas", Kind.RECORD, Kind.REPORT) == {"home", "nas", "cloud", "tv"}
        assert self.seen(trust, "nas", 77) == {"nas"}


NODES = ["home", "laptop", "office", "desk", "cloud", "nas"]


OTHERS = {by: st.sampled_from([name for name in NODES if name != by]) for by in [*NODES, "genesis"]}
ACTORS = st.sampled_from([*NODES, "genesis"])
ACTS = st.sampled_from(["admit", "admit", "admit", "evict", "succeed", "says"])
ROLES = st.sampled_from(["admin", "admin", "member"])
BOOTS = st.sampled_from([b"bootbo_A", b"bootbo_B"])
TIMES = st.integers(0, 5)


@st.composite
def stories(draw):
    """Up to a dozen arbitrary acts of a few keys on each other, many of them without any authority."""
    story = Story()
    story.admit("home", "genesis")
    issued = []

    def some():
        return set(draw(st.lists(st.sampled_from(issued), max_size=3))) if issued else set()

    for _ in range(draw(st.integers(1, 12))):
        by = draw(ACTORS)
        node, at, act = draw(OTHERS[by]), draw(TIMES), draw(ACTS)
        if act == "admit":
            issued.append(story.admit(node, by, draw(ROLES), at=at))
        elif act == "evict":
            issued.append(story.evict(node, by, some(), at=at))
        elif act == "succeed":
            issued.append(story.admit(node, by, at=at, succeeds=draw(OTHERS[node]), keep=some()))
        else:
            story.says(node, at, boot=draw(BOOTS))
    return story


class TestProperties:
    @given(stories(), st.randoms(use_true_random=False))
    def test_the_order_of_arrival_does_not_matter(self, story, rng):
        order = list(story.data.values())
        expected = story.view()
        for _ in range(3):
            rng.shuffle(order)
            assert story.view(order + order[:3]) == expected

    @given(stories())
    def test_heirs_form_lines_that_end(self, story):
        view = story.view()
        for start in view.members:
            seen, node = set(), start
            while node is not None:
                assert node not in seen
                seen.add(node)
                node = view.members[node].succeeded_by if node in view.members else None

    @given(stories(), st.sampled_from(NODES))
    def test_whom_the_recovery_key_evicts_is_out_for_good(self, story, node):
        story.evict(node, "genesis")
        member = story.view().members.get(key(node).id)
        assert member is None or member.state == "evicted"

    @given(stories())
    def test_nobody_is_in_without_an_admin_who_was(self, story):
        view = story.view()
        for member in view.active():
            assert member.name in NODES
            assert view.chain(member.id)
            if member.admitted_by is not None:
                assert view.members[member.admitted_by].role == "admin"

    @given(stories(), st.sampled_from(NODES), st.sampled_from(NODES))
    def test_may_evict_says_what_a_tombstone_would_do(self, story, admin, target):
        if admin == target:
            return
        view = story.view()
        if key(admin).id not in view.members or key(target).id not in view.members:
            return
        before = view.members[key(target).id].state
        story.evict(target, admin)
        after = state(story.view(), target)
        if view.may_evict(key(admin).id, key(target).id):
            assert after in ("evicted", None)
        elif view.members[key(admin).id].role != "admin":
            assert after == before

    def test_a_view_after_every_object_is_that_of_all_objects_so_far(self):
        story = usual()
        story.says("nas", 1)
        story.admit("home2", "laptop", name="home", succeeds="home")
        story.evict("laptop", "genesis")
        trust = Trust(MESH)
        for count, data in enumerate(story.data.values(), 1):
            trust.add(data)
            assert trust.view() == story.view(list(story.data.values())[:count])

    def test_every_order_of_a_small_story(self):
        story = Story()
        story.admit("home", "genesis")
        story.admit("laptop", "home")
        story.admit("home2", "laptop", name="home", succeeds="home")
        story.evict("laptop", "genesis")
        story.says("laptop", 1)
        expected = story.view()
        for order in itertools.permutations(story.data.values()):
            assert story.view(list(order)) == expected


def test_a_big_mesh_is_handed_on_whole_to_one_that_knows_nothing():
    story = usual()
    for number in range(400):
        story.admit(f"node{number}", "home", "admin" if number % 3 == 0 else "member")
    knows = Trust(MESH)
    for data in story.data.values():
        knows.add(data)
    learns = Trust(MESH)
    for item in knows.all_signed():
        assert isinstance(learns.add(item.data), Added)
    assert len(learns.view().active()) == 407
    assert learns.view() == knows.view()
