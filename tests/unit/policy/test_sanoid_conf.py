"""sanoid.conf as sanoid reads it; what it makes of whole worlds is compared with the real one in tests/differential."""

import difflib
from pathlib import Path
from types import SimpleNamespace

import pytest

from node.sanoid_files import load
from policy.rules import Chosen, Limit, Policy, PoolLimits, Resolution
from policy.sanoid_conf import SanoidConf, SanoidConfError, read

TREE = ("tank", "tank/a", "tank/a/b", "tank/c", "dozer")


def conf(text: str) -> SanoidConf:
    return read([("sanoid.conf", text)])


def resolved(text: str, *datasets: str, replicas: tuple[str, ...] = ()) -> Resolution:
    return conf(text).resolve(datasets or TREE, replicas)


def chosen(text: str, dataset: str) -> Chosen:
    return resolved(text).chosen[dataset]


def policy(text: str, dataset: str = "tank") -> Policy:
    return chosen(text, dataset).policy


def hourlies(text: str) -> dict[str, int]:
    return {dataset: one.policy.hourly for dataset, one in resolved(text).chosen.items()}


def mistakes(*texts: str) -> list[str]:
    with pytest.raises(SanoidConfError) as caught:
        read([(f"{number}.conf", text) for number, text in enumerate(texts)])
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return [str(problem) for problem in caught.value.problems]


class TestText:
    def test_comments_blank_lines_and_indentation(self) -> None:
        text = "# a\n ; b\n\n\t[ tank ]  \n\thourly=3\n  daily   =  4  \n"
        assert (policy(text).hourly, policy(text).daily) == (3, 4)

    @pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
    def test_ends_of_lines(self, end: str) -> None:
        assert policy(f"[tank]{end}hourly = 3{end}").hourly == 3

    def test_a_byte_order_mark(self) -> None:
        assert policy("\ufeff[tank]\nhourly = 3\n").hourly == 3

    def test_a_value_may_have_an_equals_sign(self) -> None:
        assert policy("[tank]\npre_snapshot_script = a b=c # d\n").hooks.pre_snapshot_script == "a b=c # d"

    def test_a_here_document_is_its_first_line(self) -> None:
        text = "[tank]\npruning_script = <<END\n one \ntwo\nEND\nhourly = 3\n"
        assert (policy(text).hooks.pruning_script, policy(text).hourly) == ("one", 3)
        assert conf(text).notes == (
            "sanoid.conf:2: [tank] pruning_script: of its 2 lines the first one counts",
        )

    def test_a_here_document_without_an_end(self) -> None:
        assert mistakes("[tank]\npruning_script = <<END\none\n") == [
            '0.conf:2: [tank] pruning_script: there is no line "END" where its text would end'
        ]

    def test_a_line_that_is_nothing(self) -> None:
        assert mistakes("[tank]\nhourly\n[tank/a\n") == [
            "0.conf:2: [tank] is neither a section nor a setting: hourly",
            "0.conf:3: [tank] is neither a section nor a setting: [tank/a",
        ]

    @pytest.mark.parametrize(
        "line", [" " * 1_000_000 + "x", "a" + " " * 5000 + "b", "[" + " " * 5000 + "x", "[a" + "] " * 5000]
    )
    def test_a_line_of_absurd_length_is_a_mistake_where_it_is(self, line: str) -> None:
        assert mistakes(f"[tank]\nhourly = 3\n{line}\ndayly = 4\n") == [
            "0.conf:3: [tank] is longer than 4096 characters",
            "0.conf:4: [tank] dayly: is no setting of sanoid. Did you mean daily?",
        ]

    def test_a_nul_is_a_mistake(self) -> None:
        assert mistakes("[tank]\npruning_script = a\0b\n") == ["0.conf:2: [tank] has a NUL in it"]

    def test_a_long_line_that_means_nothing_is_none(self) -> None:
        assert policy(f"[tank]\n{' ' * 1_000_000}\n#{'x' * 1_000_000}\nhourly = 3\n").hourly == 3

    def test_a_line_may_be_just_that_long(self) -> None:
        head = "pruning_script = "
        script = "x" * (4096 - len(head))
        assert policy(f"[tank]\n{head}{script}\n").hooks.pruning_script == script
        assert mistakes(f"[tank]\n{head}{script}x\n") == ["0.conf:2: [tank] is longer than 4096 characters"]

    def test_a_here_document_has_lines_no_longer(self) -> None:
        assert mistakes(f"[tank]\npruning_script = <<END\n{'x' * 4097}\nEND\n") == [
            "0.conf:2: [tank] pruning_script: its text has a line longer than 4096 characters"
        ]

    def test_blanks_behind_the_end_of_a_here_document_belong_to_it(self) -> None:
        text = "[tank]\npruning_script = <<END \none\nEND\nEND \nhourly = 3\n"
        assert (policy(text).hooks.pruning_script, policy(text).hourly) == ("one", 3)

    def test_of_a_megabyte_of_nonsense_the_first_hundred_mistakes_are_told(self) -> None:
        found = mistakes("[tank]\n" + "x\n" * 500_000, "y\n")
        assert len(found) == 101
        assert found[99:] == [
            "0.conf:101: [tank] is neither a section nor a setting: x",
            "0.conf:102: [tank] there are more mistakes from here on",
        ]

    @pytest.mark.parametrize("text", ["[a{}]\n", "[a]\nk{} = 1\n", "[a{}]\nhourly = 1\n"])
    def test_there_is_an_end_to_sections_and_settings(self, text: str) -> None:
        found = mistakes("".join(text.format(number) for number in range(30_000)))
        assert any(one.endswith("there are more than 20000 sections and settings") for one in found)

    def test_only_the_first_mistakes_are_compared_with_what_there_is(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        compared: list[str] = []

        def spy(word: str, known: list[str], count: int) -> list[str]:
            compared.append(word)
            return difflib.get_close_matches(word, known, count)

        monkeypatch.setattr("policy.sanoid_keys.difflib", SimpleNamespace(get_close_matches=spy))
        found = mistakes("[tank]\n" + "".join(f"hourly{number} = 1\n" for number in range(5000)))
        assert len(found) == 5000
        assert found[0].endswith("Did you mean hourly?")
        assert compared == [f"hourly{number}" for number in range(20)]
        compared.clear()
        many = "".join(f"[template_b{number}]\nhourly = 1\n" for number in range(1000))
        notes = conf("[tank]\nuse_template = b1x, b2x\n" + many).notes
        assert notes == (
            'sanoid.conf:2: [tank] use_template: there is no template "b1x"',
            'sanoid.conf:2: [tank] use_template: there is no template "b2x"',
        )
        assert compared == []

    def test_a_setting_before_any_section(self) -> None:
        assert mistakes("hourly = 3\n[tank]\n") == ["0.conf:1: hourly: stands outside of any section"]

    def test_a_fragment_has_to_name_its_section(self) -> None:
        assert mistakes("[tank]\n", "hourly = 3\n") == ["1.conf:1: hourly: stands outside of any section"]

    @pytest.mark.parametrize("text", ["", "# nothing\n"])
    def test_a_file_without_a_section(self, text: str) -> None:
        assert mistakes(text) == ["0.conf: there is no section in it"]

    def test_names_with_blanks_and_colons(self) -> None:
        found = resolved("[tank/my docs: 2]\nhourly = 3\n", "tank/my docs: 2")
        assert found.chosen["tank/my docs: 2"].policy.hourly == 3


class TestTwice:
    def test_of_a_key_the_first_value_counts(self) -> None:
        text = "[tank]\nhourly = 3\nhourly = 4\n"
        assert policy(text).hourly == 3
        assert conf(text).notes == (
            "sanoid.conf:3: [tank] hourly: is set already at sanoid.conf:2; the first one counts",
        )

    def test_a_section_goes_on_where_it_was(self) -> None:
        text = "[tank]\nhourly = 3\n[tank/a]\nhourly = 5\n[tank]\nhourly = 4\ndaily = 1\nrecursive = yes\n"
        assert (policy(text).hourly, policy(text).daily) == (3, 1)
        assert policy(text, "tank/a").hourly == 5, (
            "[tank] is the first of the two, so [tank/a] comes behind it"
        )

    def test_fragments_are_read_as_one_with_the_main_file(self) -> None:
        main, fragment = (
            "[tank]\nhourly = 3\nuse_template = t\n",
            "[template_t]\ndaily = 2\n[tank]\nhourly = 9\nweekly = 1\n",
        )
        both = read([("sanoid.conf", main), ("sanoid.d/x.conf", fragment)])
        found = both.resolve(["tank"]).chosen["tank"].policy
        assert (found.hourly, found.daily, found.weekly) == (3, 2, 1)
        assert both.notes == (
            "sanoid.d/x.conf:4: [tank] hourly: is set already at sanoid.conf:2; the first one counts",
        )


class TestPrecedence:
    def test_without_anything_the_defaults_of_sanoid(self) -> None:
        assert policy("[tank]\n") == Policy(name="tank", loose_names=True)

    def test_default_template_then_templates_then_section(self) -> None:
        text = """
            [tank]
            use_template = one, two
            hourly = 1
            [template_default]
            hourly = 10
            daily = 10
            weekly = 10
            monthly = 10
            [template_one]
            hourly = 20
            daily = 20
            weekly = 20
            [template_two]
            hourly = 30
            daily = 30
        """
        found = policy(text)
        assert (found.hourly, found.daily, found.weekly, found.monthly, found.yearly) == (1, 30, 20, 10, 0)

    def test_a_template_has_no_templates_and_no_recursion(self) -> None:
        text = "[tank]\nuse_template = t\n[template_t]\nrecursive = yes\nuse_template = u\n[template_u]\nhourly = 9\n"
        assert hourlies(text) == {"tank": 48}
        assert conf(text).notes == (
            "sanoid.conf:4: [template_t] recursive: means nothing in a template",
            "sanoid.conf:5: [template_t] use_template: means nothing in a template",
        )

    def test_a_template_may_say_process_children_only(self) -> None:
        found = resolved("[tank]\nuse_template = t\n[template_t]\nprocess_children_only = yes\n")
        assert found.excluded == {"tank": "process_children_only: only what is below it"}

    def test_an_unknown_template_does_nothing_and_is_told(self) -> None:
        text = "[tank]\nuse_template = prodction ,none\n[template_production]\nhourly = 9\n"
        assert policy(text).hourly == 48
        assert conf(text).notes == (
            'sanoid.conf:2: [tank] use_template: there is no template "prodction". Did you mean production?',
            'sanoid.conf:2: [tank] use_template: there is no template "none"',
        )


class TestRecursion:
    def test_children_get_all_values_of_their_parent(self) -> None:
        text = "[tank]\nrecursive = yes\nhourly = 3\n"
        assert hourlies(text) == {"tank": 3, "tank/a": 3, "tank/a/b": 3, "tank/c": 3}
        assert chosen(text, "tank").reason == "[tank] in sanoid.conf"
        assert chosen(text, "tank/a/b").reason == "[tank] in sanoid.conf, recursive"
        found = resolved(text).chosen
        assert found["tank/a/b"].policy is found["tank"].policy, (
            "a tick works out the moments of each policy once"
        )

    def test_a_child_behind_its_parent_changes_what_it_sets(self) -> None:
        text = "[tank]\nrecursive = yes\nhourly = 3\ndaily = 3\n[tank/a]\nhourly = 1\n"
        assert hourlies(text) == {"tank": 3, "tank/a": 1, "tank/a/b": 3, "tank/c": 3}
        assert policy(text, "tank/a").daily == 3

    def test_a_child_behind_its_parent_does_not_start_again_from_the_defaults(self) -> None:
        text = "[template_default]\ndaily = 7\n[tank]\nrecursive = yes\ndaily = 3\n[tank/a]\nhourly = 1\n"
        assert policy(text, "tank/a").daily == 3

    def test_a_child_before_its_parent_is_written_over(self) -> None:
        text = "[tank/a]\nhourly = 1\nprocess_children_only = no\n[tank]\nrecursive = yes\nhourly = 3\n"
        assert hourlies(text) == {"tank": 3, "tank/a": 3, "tank/a/b": 3, "tank/c": 3}
        assert resolved(text).notes == (
            "[tank] writes over all that [tank/a] sets, because it comes later in sanoid.conf",
        )

    def test_process_children_only_is_not_handed_down_and_not_written_over(self) -> None:
        text = "[tank/a]\nprocess_children_only = yes\n[tank]\nrecursive = yes\nprocess_children_only = yes\n"
        found = resolved(text)
        assert set(found.excluded) == {"tank", "tank/a"}
        assert set(found.chosen) == {"tank/a/b", "tank/c"}

    @pytest.mark.parametrize("value", ["no", "0", "", "Off"])
    def test_no(self, value: str) -> None:
        text = f"[tank]\nrecursive = {value}\n"
        assert set(hourlies(text)) == {"tank"}
        assert conf(text).notes == ()

    def test_what_is_neither_is_a_no_and_told(self) -> None:
        text = "[tank]\nrecursive = yes # all\n"
        assert set(hourlies(text)) == {"tank"}
        assert conf(text).notes == (
            'sanoid.conf:2: [tank] recursive: "yes # all" is neither yes, no nor zfs: it counts as no',
        )

    def test_skip_children(self) -> None:
        found = resolved("[tank]\nrecursive = yes\n[tank/a]\nskip_children = yes\n")
        assert set(found.chosen) == {"tank", "tank/a", "tank/c"}
        assert found.excluded == {"tank/a/b": "skip_children of [tank/a] in sanoid.conf"}

    def test_skip_children_before_the_recursive_parent_is_undone(self) -> None:
        found = resolved("[tank/a]\nskip_children = yes\n[tank]\nrecursive = yes\n")
        assert "tank/a/b" in found.chosen

    def test_a_section_for_what_was_skipped_starts_from_the_defaults(self) -> None:
        text = "[tank]\nrecursive = yes\nhourly = 3\n[tank/a]\nskip_children = 1\n[tank/a/b]\ndaily = 1\n"
        assert hourlies(text)["tank/a/b"] == 48
        assert resolved(text).excluded == {}


class TestZfsRecursion:
    TEXT = "[tank]\nrecursive = zfs\nhourly = 3\n"

    def test_the_top_takes_all_and_the_others_nothing(self) -> None:
        found = resolved(self.TEXT).chosen
        assert found["tank"].along == ("tank/a", "tank/a/b", "tank/c")
        assert {dataset: (one.policy.autosnap, one.policy.autoprune) for dataset, one in found.items()} == {
            "tank": (True, True),
            **dict.fromkeys(("tank/a", "tank/a/b", "tank/c"), (False, True)),
        }
        assert found["tank/a"].reason == (
            "[tank] in sanoid.conf, recursive; its snapshots are taken with those of tank"
        )

    @pytest.mark.parametrize("value", ["ZFS", "zfs please"])
    def test_it_has_only_to_say_zfs(self, value: str) -> None:
        assert resolved(f"[tank]\nrecursive = {value}\n").chosen["tank"].along

    def test_a_child_may_keep_another_number(self) -> None:
        found = resolved(self.TEXT + "[tank/a]\nhourly = 9\n")
        assert (found.chosen["tank/a"].policy.hourly, found.chosen["tank/a"].policy.autosnap) == (9, False)
        assert found.chosen["tank/a"].along == ()
        assert found.notes == ()

    def test_a_child_cannot_take_by_itself(self) -> None:
        found = resolved(self.TEXT + "[tank/a]\nautosnap = yes\n")
        assert not found.chosen["tank/a"].policy.autosnap
        assert found.notes == (
            "sanoid.conf:5: [tank/a] autosnap: has no effect: tank/a is part of a zfs recursion",
        )

    def test_with_process_children_only_nothing_is_taken_and_that_is_told(self) -> None:
        found = resolved(self.TEXT + "process_children_only = yes\n")
        assert not any(one.policy.autosnap or one.along for one in found.chosen.values())
        assert any("takes nothing" in note for note in found.notes)

    def test_a_recursion_within_a_recursion_is_part_of_the_outer_one(self) -> None:
        found = resolved(self.TEXT + "[tank/a]\nrecursive = zfs\n")
        assert found.chosen["tank/a"].along == ()
        assert found.chosen["tank/a/b"].reason.endswith("taken with those of tank")

    def test_but_for_a_yes_that_sanoid_does_not_know(self) -> None:
        found = resolved(self.TEXT + "[tank/a]\nautosnap = yeah\n").chosen["tank/a"]
        assert found.policy.autosnap
        assert found.along == ("tank/a/b",)

    def test_what_is_skipped_is_taken_along_all_the_same_and_that_is_told(self) -> None:
        found = resolved(self.TEXT + "[tank/a]\nskip_children = yes\n")
        assert "tank/a/b" in found.chosen["tank"].along
        assert "tank/a/b" in found.excluded
        assert found.notes == (
            "sanoid.conf:5: [tank/a] skip_children: what is below is snapped by the zfs recursion all the same, "
            "and nobody prunes it",
        )

    def test_a_recursion_below_a_plain_one(self) -> None:
        found = resolved("[tank]\nrecursive = yes\n[tank/a]\nrecursive = zfs\n").chosen
        assert found["tank/a"].along == ("tank/a/b",)
        assert not found["tank/a/b"].policy.autosnap
        assert found["tank/c"].policy.autosnap


class TestPath:
    def test_a_section_by_another_name(self) -> None:
        found = resolved("[vault]\npath = tank/a\nrecursive = yes\nhourly = 3\n")
        assert set(found.chosen) == {"tank/a", "tank/a/b"}
        assert found.chosen["tank/a"].policy.name == "vault"
        assert found.unmatched == ()

    def test_a_section_with_a_path_is_not_for_its_name(self) -> None:
        assert set(resolved("[tank]\npath = dozer\n").chosen) == {"dozer"}

    def test_of_two_sections_the_first_counts(self) -> None:
        found = resolved("[one]\npath = tank\nhourly = 1\n[tank]\nhourly = 2\n")
        assert found.chosen["tank"].policy.hourly == 1
        assert found.notes == ("[tank] is for tank, as [one] is; only [one] counts",)

    def test_a_section_comes_before_what_is_only_below_one(self) -> None:
        found = resolved("[tank]\nrecursive = yes\nhourly = 2\n[one]\npath = tank/a\nhourly = 1\n")
        assert found.chosen["tank/a"].policy.hourly == 1

    def test_an_empty_path(self) -> None:
        assert mistakes("[tank]\npath =\n") == [
            "0.conf:2: [tank] path: is empty: it names the dataset that the section is for"
        ]


class TestWhatThereIs:
    def test_a_section_for_nothing_is_unmatched(self) -> None:
        assert resolved("[gone]\nrecursive = yes\n[tank]\n").unmatched == ("gone",)

    def test_what_appears_below_a_recursive_section_gets_it_at_once(self) -> None:
        rules = conf("[tank]\nrecursive = yes\n")
        assert set(rules.resolve(["tank", "tank/new"]).chosen) == {"tank", "tank/new"}

    def test_nothing_at_or_below_a_replica_root_gets_a_policy(self) -> None:
        text = "[tank]\nrecursive = zfs\n[tank/a/b]\nhourly = 1\n"
        found = resolved(text, replicas=("tank/a",))
        assert set(found.chosen) == {"tank", "tank/c"}
        assert found.chosen["tank"].along == ("tank/c",)
        assert found.excluded == dict.fromkeys(("tank/a", "tank/a/b"), "holds replicas (tank/a)")

    def test_the_limits_of_a_pool_are_those_of_its_own_section(self) -> None:
        text = "[tank/a]\ncapacity_warn = 1\n[tank]\ncapacity_warn = 70\ncapacity_crit = 0\n[dozer]\n"
        assert resolved(text).pools == {"tank": PoolLimits(70, 0), "dozer": PoolLimits(80, 95)}

    def test_a_pool_without_a_section_has_the_limits_of_the_first_below_it(self) -> None:
        text = "[template_default]\ncapacity_warn = 60\n[tank/a]\n[tank/c]\ncapacity_warn = 50\n"
        assert resolved(text).pools == {"tank": PoolLimits(60, 95)}


class TestValues:
    @pytest.mark.parametrize("text", ["1", "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"])
    def test_yes(self, text: str) -> None:
        rules = f"[tank]\nautosnap = {text}\n"
        assert policy(rules).autosnap
        assert conf(rules).notes == ()

    @pytest.mark.parametrize(
        "text", ["0", "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", ""]
    )
    def test_no(self, text: str) -> None:
        rules = f"[tank]\nautosnap = {text}\n"
        assert not policy(rules).autosnap
        assert conf(rules).notes == ()

    @pytest.mark.parametrize(
        ("text", "meant"), [("nO", "no"), ("no # never", "no"), ("00", ""), ("nope", "")]
    )
    def test_anything_else_is_a_yes_and_told(self, text: str, meant: str) -> None:
        rules = f"[tank]\nautosnap = {text}\n"
        assert policy(rules).autosnap
        suggestion = f". Did you mean {meant}?" if meant else ""
        told = f'sanoid.conf:2: [tank] autosnap: "{text}" is neither yes nor no: it counts as yes{suggestion}'
        assert conf(rules).notes == (told,)

    @pytest.mark.parametrize(
        ("text", "number"),
        [("3", 3), ("03", 3), ("+3", 3), ("3 # x", 3), ("3x", 3), ("24h", 24), ("0x10", 0), ("1_000", 1)],
    )
    def test_numbers_are_read_as_perl_reads_them(self, text: str, number: int) -> None:
        rules = f"[tank]\nhourly = {text}\n"
        assert policy(rules).hourly == number
        assert bool(conf(rules).notes) == (not text.lstrip("+").isdigit())

    @pytest.mark.parametrize("text", ["", "many", "-1", "1.5", "1e3", "# 3", "9" * 4000])
    def test_what_is_no_count(self, text: str) -> None:
        (mistake,) = mistakes(f"[tank]\nhourly = {text}\n")
        assert mistake.startswith("0.conf:2: [tank] hourly: ")

    @pytest.mark.parametrize(
        ("key", "low", "high"),
        [
            *[(key, 0, 59) for key in ("hourly_min", "daily_min", "weekly_min", "monthly_min", "yearly_min")],
            *[(key, 0, 23) for key in ("daily_hour", "weekly_hour", "monthly_hour", "yearly_hour")],
            *[(key, 1, 31) for key in ("monthly_mday", "yearly_mday")],
            *[(key, 0, 100) for key in ("prune_defer", "capacity_warn", "capacity_crit")],
            ("weekly_wday", 0, 6),
            ("yearly_mon", 1, 12),
        ],
    )
    def test_ranges(self, key: str, low: int, high: int) -> None:
        for value in (low, high):
            assert conf(f"[tank]\n{key} = {value}\n").notes == ()
        for value in (low - 1, high + 1):
            (mistake,) = mistakes(f"[tank]\n{key} = {value}\n")
            assert mistake.startswith(f"0.conf:2: [tank] {key}: ")

    def test_a_percentage_has_nothing_behind_it(self) -> None:
        (mistake,) = mistakes("[tank]\nprune_defer = 60 # %\n")
        assert mistake.endswith(
            '"60 # %" is not a number from 0 to 100 with nothing behind it. Did you mean 60?'
        )

    @pytest.mark.parametrize("value", [1, 7, 60, 90])
    def test_a_frequent_period_may_be_longer_than_an_hour(self, value: int) -> None:
        assert policy(f"[tank]\nfrequent_period = {value}\n").frequent_period == value

    def test_a_policy_has_all_that_is_set(self) -> None:
        text = """[tank]
            autoprune = no
            frequent_period = 7
            daily_hour = 5
            weekly_wday = 0
            yearly_mon = 12
            prune_defer = 40
            pre_snapshot_script = /bin/a
            post_snapshot_script = /bin/b
            pre_pruning_script = /bin/c
            pruning_script = /bin/d
            script_timeout = -1
            no_inconsistent_snapshot = yes
            force_post_snapshot_script = on
        """
        found = policy(text)
        assert (found.autoprune, found.frequent_period, found.daily_hour, found.prune_defer) == (
            False,
            7,
            5,
            40,
        )
        assert (found.weekly_wday, found.yearly_mon, found.loose_names, found.timezone) == (
            0,
            12,
            True,
            "UTC",
        )
        hooks = found.hooks
        assert (hooks.pre_snapshot_script, hooks.post_snapshot_script) == ("/bin/a", "/bin/b")
        assert (hooks.pre_pruning_script, hooks.pruning_script, hooks.script_timeout) == (
            "/bin/c",
            "/bin/d",
            -1,
        )
        assert hooks.no_inconsistent_snapshot
        assert hooks.force_post_snapshot_script

    def test_times_of_day_are_those_of_the_zone_that_is_asked_for(self) -> None:
        found = conf("[tank]\n").resolve(["tank"], timezone="Europe/Berlin")
        assert found.chosen["tank"].policy.timezone == "Europe/Berlin"


class TestMonitor:
    @pytest.mark.parametrize(
        ("kind", "seconds"),
        [
            *[("frequently", 1), ("hourly", 60), ("daily", 3600)],
            *[("weekly", 86400), ("monthly", 7 * 86400), ("yearly", 31 * 86400)],
        ],
    )
    def test_without_a_unit_it_is_the_next_smaller_one(self, kind: str, seconds: int) -> None:
        found = policy(f"[tank]\n{kind}_warn = 2\n{kind}_crit = 3\n").monitor
        assert getattr(found, kind) == Limit(2 * seconds, 3 * seconds)

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("9s", 9),
            ("9M", 540),
            ("9h", 32400),
            ("9D", 777_600),
            ("2w", 1_209_600),
            ("1y", 31_536_000),
            ("0", 0),
        ],
    )
    def test_units(self, text: str, seconds: int) -> None:
        assert policy(f"[tank]\nmonthly_crit = {text}\n").monitor.monthly.crit == seconds

    @pytest.mark.parametrize("text", ["", "soon", "9x", "1h30m", "-1", "9h # x"])
    def test_what_is_no_age(self, text: str) -> None:
        (mistake,) = mistakes(f"[tank]\nhourly_warn = {text}\n")
        assert mistake.startswith(
            f'0.conf:2: [tank] hourly_warn: "{text}" is not an age like 90m, 36h or 32d'
        )

    def test_switches(self) -> None:
        found = policy("[tank]\nmonitor = no\nmonitor_dont_warn = yes\nmonitor_dont_crit = 1\n").monitor
        assert (found.monitor, found.monitor_dont_warn, found.monitor_dont_crit) == (False, True, True)


class TestMistakes:
    def test_all_of_them_at_once_with_their_places(self) -> None:
        assert mistakes(
            "[tank]\nHourly = 3\nretention = 4\nprune_defer = 150\n[template_x]\nautonap = yes\n",
            "[dozer]\nmonthly_mday = 99\n",
        ) == [
            "0.conf:2: [tank] Hourly: is no setting of sanoid. Did you mean hourly?",
            "0.conf:3: [tank] retention: is no setting of sanoid",
            '0.conf:4: [tank] prune_defer: "150" is not a number from 0 to 100 with nothing behind it',
            "0.conf:6: [template_x] autonap: is no setting of sanoid. Did you mean autosnap?",
            "1.conf:2: [dozer] monthly_mday: 99 is out of range: from 1 to 31",
        ]

    def test_a_problem_says_where_it_is(self) -> None:
        with pytest.raises(SanoidConfError) as caught:
            conf("[tank]\nHourly = 3\n")
        (problem,) = caught.value.problems
        assert (problem.file, problem.line, problem.section, problem.key, problem.suggestion) == (
            *("sanoid.conf", 2, "tank", "Hourly", "hourly"),
        )


class TestSections:
    def test_they_are_there_in_order_with_their_places(self) -> None:
        tank, template = conf("[tank]\nhourly = 3\n\n[template_x]\ndaily = 4\n").sections
        assert (tank.name, tank.template, tank.line, tank.get("hourly"), tank.get("daily")) == (
            "tank",
            None,
            1,
            "3",
            "",
        )
        assert (template.template, template.line, template.keys["daily"].line) == ("x", 4, 5)


class TestFiles:
    def test_a_directory_with_fragments(self, tmp_path: Path) -> None:
        (tmp_path / "sanoid.conf").write_text("[tank]\nhourly = 3\n")
        (tmp_path / "sanoid.d").mkdir()
        (tmp_path / "sanoid.d" / "b.conf").write_text("[tank/a]\nhourly = 2\n")
        (tmp_path / "sanoid.d" / "a.conf").write_text("[tank/a]\nhourly = 1\n")
        (tmp_path / "sanoid.d" / "a.conf.bak").write_text("nonsense")
        found = load(tmp_path).resolve(TREE).chosen
        assert {dataset: one.policy.hourly for dataset, one in found.items()} == {"tank": 3, "tank/a": 1}

    def test_a_single_file(self, tmp_path: Path) -> None:
        (tmp_path / "other").write_bytes(b"[tank]\r\nhourly = 3\r\n")
        assert load(tmp_path / "other").resolve(TREE).chosen["tank"].policy.hourly == 3

    def test_none(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            load(tmp_path)

    def test_what_is_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "sanoid.conf").write_bytes(
            b"# t\xe4glich\n[tank]\nHourly = 3\npruning_script = /bin/\xe4\n"
        )
        with pytest.raises(SanoidConfError) as caught:
            load(tmp_path)
        place = tmp_path / "sanoid.conf"
        assert [str(problem) for problem in caught.value.problems] == [
            f"{place}:3: [tank] Hourly: is no setting of sanoid. Did you mean hourly?",
            f"{place}:4: [tank] is not UTF-8 text",
        ]

    def test_a_comment_may_be_in_any_encoding(self, tmp_path: Path) -> None:
        (tmp_path / "sanoid.conf").write_bytes(b"# t\xe4glich\n[tank]\nhourly = 3\n")
        assert load(tmp_path).resolve(TREE).chosen["tank"].policy.hourly == 3
