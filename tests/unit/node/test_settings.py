"""The configuration: what it means, and that every mistake is found at once, with its place."""

import tomllib
from pathlib import Path
from typing import get_args

import pytest

from node.errors import Exit
from node.settings import ConfigError, MeshSettings, Settings, config_files, load, parse
from node.settings_lines import key_lines
from node.settings_model import Document, PolicySection, Section
from policy.rules import KINDS, Assignment, Hooks, KeepEvery, Limit, Monitor, Policy, PoolLimits
from replication.target_retention import Keep

EXAMPLE = Path(__file__).parents[3] / "deploy" / "meshkeep.toml"

GOOD = """\
[mesh]
listen_port = 51999
endpoints = ["203.0.113.7:51820", "[2001:db8::7]:51820", "vps.example.org:51820"]
domain = "home.internal"

[snapshots]
tick = "5m"

[policy.production]
hourly = 36
daily = 30
monthly = 3
autoprune = false

[dataset."tank/home"]
policy = "production"

[dataset."tank/vm"]
policy = "production"
recursive = true
exclude = ["tank/vm/scratch"]

[[replicate]]
from = "tank/home"
to = ["nas", "vps1"]
rate_limit = "8MiB/s"

[[replicate]]
from = "tank/vm"
to = "nas"
allow_plaintext = true

[[share]]
dataset = "tank/home"
to = ["desk"]
access = "rw"
squash = "root"
map_to = "alice"
"""


def mistakes(*texts: str) -> list[str]:
    """The mistakes in files a, b, …"""
    with pytest.raises(ConfigError) as caught:
        parse([("abc"[number], text) for number, text in enumerate(texts)])
    return [str(problem) for problem in caught.value.problems]


class TestMeaning:
    def test_nothing_at_all_is_the_defaults(self) -> None:
        assert load([]) == Settings(mesh=MeshSettings(51820, (), "mesh"), tick=60)

    def test_every_section_arrives(self) -> None:
        found = parse([("a", GOOD)])
        assert found.mesh.listen_port == 51999
        assert parse([("a", "[mesh]\nvault_ports = [22]")]).mesh.vault_ports == (22,)
        assert found.mesh.endpoints[1] == "[2001:db8::7]:51820"
        assert found.tick == 300
        production = Policy(name="production", hourly=36, daily=30, monthly=3, autoprune=False)
        assert found.policies == {"production": production}
        assert found.assignments == (
            Assignment("tank/home", production),
            Assignment("tank/vm", production, "each", ("tank/vm/scratch",)),
        )
        home, vm = found.replicate
        assert (home.dataset, home.to, home.allow_plaintext, home.rate_limit) == (
            "tank/home",
            ("nas", "vps1"),
            False,
            8 * 2**20,
        )
        assert (vm.to, vm.allow_plaintext, vm.rate_limit) == (("nas",), True, None)
        (share,) = found.shares
        assert (share.to, share.access, share.squash, share.map_to) == (("desk",), "rw", "root", "alice")

    def test_a_share_is_read_only_and_squashed_unless_it_says_otherwise(self) -> None:
        (share,) = parse([("a", '[[share]]\ndataset = "tank/a"\nto = "desk"')]).shares
        assert (share.access, share.squash, share.map_to) == ("ro", "all", None)

    def test_where_copies_of_others_are_kept(self) -> None:
        assert parse([("a", '[storage]\nunder = "tank/copies"')]).storage_under == "tank/copies"

    def test_which_copies_of_others_stay(self) -> None:
        assert parse([]).keep == Keep()
        text = '[storage]\nfloor = "90d"\nhourly = 1\ndaily = 2\nweekly = 3\nmonthly = 4\nyearly = 0'
        assert parse([("a", text)]).keep == Keep(90 * 86400, 1, 2, 3, 4, 0)

    @pytest.mark.parametrize("floor", ['"0s"', '"59m"', "30", '"40000d"', '"soon"'])
    def test_a_floor_is_an_hour_or_more(self, floor: str) -> None:
        with pytest.raises(ConfigError):
            parse([("a", f"[storage]\nfloor = {floor}")])

    def test_an_absent_number_of_a_policy_is_sanoids(self) -> None:
        assert parse([("a", "[policy.p]")]).policies["p"] == Policy(name="p")

    def test_every_key_of_a_policy_can_be_set(self) -> None:
        ages = {f"{kind}_{level}" for kind in KINDS for level in ("warn", "crit")}
        switches = {"monitor", "monitor_dont_warn", "monitor_dont_crit"}
        assert set(Monitor.__slots__) == {*KINDS, *switches}
        assert set(PolicySection.model_fields) == (
            (set(Policy.__slots__) - {"name", "hooks"}) | set(Hooks.__slots__) | ages | switches | {"extends"}
        )

    def test_it_is_known_where_everything_was_set(self) -> None:
        found = parse([("a", GOOD), ("b", '[[share]]\ndataset = "tank/x"\nto = "desk"')])
        assert (
            found.origins["policy.production.daily"].file,
            found.origins["policy.production.daily"].line,
        ) == (
            "a",
            11,
        )
        assert found.origins['dataset."tank/vm".exclude'].line == 21
        assert found.replicate[1].origin.line == 28
        assert (found.shares[1].origin.file, found.shares[1].origin.line) == ("b", 1)

    def test_sections_and_lists_of_rules_of_several_files_come_together(self) -> None:
        found = parse(
            [
                ("a", '[policy.p]\ndaily = 1\n[[replicate]]\nfrom = "tank/a"\nto = "nas"'),
                ("b", '[policy.p]\nhourly = 2\n[[replicate]]\nfrom = "tank/b"\nto = "nas"'),
            ]
        )
        assert (found.policies["p"].daily, found.policies["p"].hourly) == (1, 2)
        assert [rule.dataset for rule in found.replicate] == ["tank/a", "tank/b"]

    def test_the_example_that_is_shipped_is_sound_and_sets_nothing(self) -> None:
        assert load([EXAMPLE]) == Settings()

    def test_the_example_is_sound_with_all_its_lines_in_force(self) -> None:
        lines = EXAMPLE.read_text().splitlines()
        shown = "\n".join(line[1:] for line in lines if line.startswith("#") and not line.startswith("# "))
        found = parse([("example", shown)])
        assert found.shares[0].map_to == "alice"
        tree = tomllib.loads(shown)
        for name, info in Document.model_fields.items():
            section = tree[name]
            models = [info.annotation, *get_args(info.annotation)]
            keys = {
                field.alias or key
                for model in models
                if isinstance(model, type) and issubclass(model, Section)
                for key, field in model.model_fields.items()
            }
            tables = section if isinstance(section, list) else [section, *section.values()]
            assert keys <= {key for table in tables if isinstance(table, dict) for key in table}, name


class TestPolicies:
    """What `[policy.NAME]`, `[pool.NAME]` and the rules that use them come to."""

    def test_what_it_extends_comes_left_to_right_and_its_own_keys_last(self) -> None:
        found = parse(
            [
                (
                    "a",
                    "[policy.one]\nhourly = 1\ndaily = 1\nweekly = 1\n"
                    "[policy.two]\nhourly = 2\ndaily = 2\n"
                    '[policy.both]\nextends = ["one", "two"]\nhourly = 3\n'
                    '[policy.other]\nextends = ["two", "one"]\n'
                    '[policy.far]\nextends = "both"\nmonthly = 9',
                )
            ]
        ).policies
        numbers = {name: (p.hourly, p.daily, p.weekly, p.monthly) for name, p in found.items()}
        assert numbers["both"] == (3, 2, 1, 6)
        assert numbers["other"] == (1, 1, 1, 6)
        assert numbers["far"] == (3, 2, 1, 9)

    def test_a_key_set_to_its_default_wins_over_what_is_inherited(self) -> None:
        found = parse([("a", '[policy.a]\nhourly = 1\n[policy.b]\nextends = "a"\nhourly = 48')]).policies
        assert found["b"].hourly == 48

    def test_all_that_goes_beyond_sanoid_arrives(self) -> None:
        text = (
            "[policy.p]\nkeep_last = 5\nskip_unchanged = true\nprune_defer = 60\nloose_names = true\n"
            'keep_every = { "12h" = 4, "1d" = 7 }\ntimezone = "Asia/Tokyo"'
        )
        assert parse([("a", text)]).policies["p"] == Policy(
            name="p",
            keep_last=5,
            skip_unchanged=True,
            prune_defer=60,
            loose_names=True,
            keep_every=(KeepEvery(43200, 4), KeepEvery(86400, 7)),
            timezone="Asia/Tokyo",
        )

    def test_ages_and_hooks_arrive_and_the_rest_of_them_is_sanoids(self) -> None:
        text = (
            '[policy.p]\nhourly_warn = "90m"\nhourly_crit = 0\nweekly_crit = "1w2d"\nmonitor_dont_warn = true\n'
            'pruning_script = "/bin/gone"\nscript_timeout = "2m"\n[policy.q]\nscript_timeout = 0'
        )
        found = parse([("a", text)]).policies
        assert found["p"].monitor == Monitor(
            hourly=Limit(5400, 0), weekly=Limit(0, 9 * 86400), monitor_dont_warn=True
        )
        assert found["p"].hooks == Hooks(pruning_script="/bin/gone", script_timeout=120)
        assert found["q"].hooks.script_timeout == 0

    def test_the_zone_is_that_of_the_policy_else_of_what_it_extends_else_of_all(self) -> None:
        text = (
            '[snapshots]\ntimezone = "Europe/Berlin"\n[policy.a]\n[policy.b]\ntimezone = "UTC"\n'
            '[policy.c]\nextends = "b"'
        )
        found = parse([("a", text)]).policies
        zones = {name: policy.timezone for name, policy in found.items()}
        assert zones == {"a": "Europe/Berlin", "b": "UTC", "c": "UTC"}

    def test_limits_of_a_pool(self) -> None:
        found = parse([("a", "[pool.tank]\nspace_high = 90\nspace_low = 80\n[pool.pond]\ncapacity_crit = 0")])
        assert found.pools == {"tank": PoolLimits(80, 95, 90, 80), "pond": PoolLimits(80, 0)}
        assert parse([("a", "[pool.tank]")]).pools == {"tank": PoolLimits(80, 95, 0, 0)}

    def test_the_ways_of_recursion(self) -> None:
        text = (
            '[policy.p]\n[dataset.a]\npolicy = "p"\nrecursive = "zfs"\n[dataset.b]\npolicy = "p"\n'
            'recursive = true\nprocess_children_only = true\n[dataset.c]\npolicy = "p"\nrecursive = false'
        )
        found = parse([("a", text)]).assignments
        assert [(one.recursion, one.children_only) for one in found] == [
            ("zfs", False),
            ("each", True),
            ("no", False),
        ]

    def test_where_sanoids_rules_and_the_metrics_are(self) -> None:
        found = parse([("a", '[snapshots]\nsanoid = "/etc/sanoid"\n[metrics]\nlisten = "127.0.0.1:9469"')])
        assert (found.sanoid, found.metrics) == ("/etc/sanoid", "127.0.0.1:9469")


class TestFiles:
    def test_the_main_file_comes_first_then_the_others_by_name(self, tmp_path: Path) -> None:
        assert config_files(tmp_path) == []
        (tmp_path / "conf.d").mkdir()
        for name in ("conf.d/b.toml", "conf.d/a.toml", "meshkeep.toml", "conf.d/a.toml.bak"):
            (tmp_path / name).touch()
        assert [str(path.relative_to(tmp_path)) for path in config_files(tmp_path)] == [
            "meshkeep.toml",
            "conf.d/a.toml",
            "conf.d/b.toml",
        ]

    def test_a_file_that_cannot_be_read_is_a_mistake_like_any_other(self, tmp_path: Path) -> None:
        (tmp_path / "a.toml").write_bytes(b"\xff")
        (tmp_path / "b.toml").write_text("[mesh]\nport = 1")
        with pytest.raises(ConfigError) as caught:
            load([tmp_path / name for name in ("a.toml", "b.toml", "c.toml")])
        assert [problem.text for problem in caught.value.problems] == [
            "is not UTF-8 text",
            "unknown key",
            "cannot be read: No such file or directory",
        ]


class TestMistakes:
    def test_all_are_told_at_once_with_exit_4(self) -> None:
        with pytest.raises(ConfigError) as caught:
            parse(
                [
                    (
                        "/etc/meshkeep/meshkeep.toml",
                        '[policy.production]\nhurly = 36\ndaily = "30"\n\n'
                        '[dataset."tank/home"]\npolicy = "prodction"',
                    )
                ]
            )
        assert caught.value.exit is Exit.CONFIG
        assert caught.value.what == "the configuration has 3 mistakes"
        assert caught.value.why.splitlines() == [
            '/etc/meshkeep/meshkeep.toml:2: policy.production.hurly: unknown key. Did you mean "hourly"?',
            '/etc/meshkeep/meshkeep.toml:3: policy.production.daily: must be a whole number, not "30"',
            '/etc/meshkeep/meshkeep.toml:6: dataset."tank/home".policy: there is no policy "prodction". '
            'Did you mean "production"?',
        ]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("[polcy.p]", 'a:1: polcy: unknown section. Did you mean "policy"?'),
            ("[mesh]\nlisten_prt = 1", 'a:2: mesh.listen_prt: unknown key. Did you mean "listen_port"?'),
            ("[mesh]\nzzz = 1", "a:2: mesh.zzz: unknown key"),
            ("[mesh]\nlisten_port = 0", "a:2: mesh.listen_port: must be at least 1, not 0"),
            ("[mesh]\nlisten_port = 65536", "a:2: mesh.listen_port: must be at most 65535, not 65536"),
            ("[mesh]\nlisten_port = true", "a:2: mesh.listen_port: must be a whole number, not true"),
            ("mesh = 3", "a:1: mesh: must be a section, not 3"),
            ('policy = "x"', 'a:1: policy: must be a section, not "x"'),
            ("[replicate]", "a:1: replicate: must be a list, not a section"),
            (
                '[mesh]\nendpoints = ["1.2.3.4"]',
                'a:2: mesh.endpoints[0]: "1.2.3.4" is no endpoint; '
                'write it like "203.0.113.7:51820" or "[2001:db8::7]:51820"',
            ),
            (
                '[mesh]\ndomain = "Mesh!"',
                'a:2: mesh.domain: "Mesh!" is no domain; write it like "mesh" or "home.internal"',
            ),
            ("[snapshots]\ntick = 60", "a:2: snapshots.tick: must be in quotes, with a unit"),
            ('[snapshots]\ntick = "1s"', "a:2: snapshots.tick: must be from 10s to 1h"),
            ("[policy.p]\nautosnap = 1", "a:2: policy.p.autosnap: must be true or false, not 1"),
            ("[policy.p]\nmonthly_mday = 32", "a:2: policy.p.monthly_mday: must be at most 31, not 32"),
            ('[dataset."tank/a"]', 'a:1: dataset."tank/a".policy: is missing'),
            (
                '[dataset."tank//a"]\npolicy = "p"\n[policy.p]',
                "a:1: dataset.\"tank//a\": 'tank//a' has an empty component",
            ),
            (
                '[[replicate]]\nfrom = "tank/a"\nto = "NAS"',
                'a:3: replicate[0].to[0]: "NAS" is no node name: '
                "small letters, digits and dashes, at most 32",
            ),
            ('[[replicate]]\nfrom = "tank/a"\nto = []', "a:3: replicate[0].to: must not be empty"),
            (
                '[[replicate]]\nfrm = "a"\nto = "n"\nfrom = "a"',
                'a:2: replicate[0].frm: unknown key. Did you mean "from"?',
            ),
            (
                '[[share]]\ndataset = "a"\nto = "n"\naccess = "wr"',
                'a:4: share[0].access: must be "ro" or "rw", not "wr"',
            ),
            (
                '[[share]]\ndataset = "a"\nto = "n"\nmap_to = 0',
                "a:4: share[0].map_to: 0 is no uid that can be mapped to",
            ),
            (
                '[[share]]\ndataset = "a"\nto = "n"\nmap_to = "x"\nsquash = "none"',
                'a:4: share[0].map_to: means nothing with squash = "none"',
            ),
            (
                '[policy.p]\n[dataset.a]\npolicy = "p"\nexclude = ["a/b"]',
                "a:4: dataset.a.exclude: means nothing without recursive = true",
            ),
            (
                '[policy.p]\n[dataset.a]\npolicy = "p"\nrecursive = true\nexclude = ["ab"]',
                'a:5: dataset.a.exclude: "ab" is not below a',
            ),
            (
                '[policy.p]\n[dataset.a]\npolicy = "p"\nprocess_children_only = true',
                "a:4: dataset.a.process_children_only: takes nothing at all without recursive = true",
            ),
            (
                '[policy.p]\n[dataset.a]\npolicy = "p"\nrecursive = "yes"',
                'a:4: dataset.a.recursive: must be true, false or "zfs", not "yes"',
            ),
            (
                '[policy.prod]\n[policy.p]\nextends = ["prd"]',
                'a:3: policy.p.extends: there is no policy "prd". Did you mean "prod"?',
            ),
            ('[policy.p]\nextends = "p"', 'a:2: policy.p.extends: "p" extends itself'),
            ("[policy.p]\nextends = 3", "a:2: policy.p.extends: must be a list, not 3"),
            (
                '[policy.p]\ntimezone = "Europe/Berlln"',
                'a:2: policy.p.timezone: "Europe/Berlln" is no time zone known here; '
                'did you mean "Europe/Berlin"?',
            ),
            (
                '[policy.p]\ntimezone = "../etc/passwd"',
                'a:2: policy.p.timezone: "../etc/passwd" is no time zone known here; '
                'write it like "UTC" or "Europe/Berlin"',
            ),
            (
                '[snapshots]\nsanoid = "/etc/\\u0000x"',
                "a:2: snapshots.sanoid: '/etc/\\x00x' has a NUL in it, which no path and no command may have",
            ),
            (
                '[policy.p]\npre_snapshot_script = "a\\u0000b"',
                "a:2: policy.p.pre_snapshot_script: 'a\\x00b' has a NUL in it, "
                "which no path and no command may have",
            ),
            (
                '[snapshots]\nsanoid = "sanoid"',
                'a:2: snapshots.sanoid: "sanoid" is no absolute path; write it like "/etc/sanoid"',
            ),
            ("[policy.p]\nprune_defer = 101", "a:2: policy.p.prune_defer: must be at most 100, not 101"),
            (
                '[policy.p]\nkeep_every = { "30s" = 1 }',
                'a:2: policy.p.keep_every.30s: "30s" is too short for a period; write it like "1d"',
            ),
            (
                "[policy.p]\nkeep_every = { daily = 1 }",
                "a:2: policy.p.keep_every.daily: 'daily' is not a duration; "
                'write it like "90m", "24h" or "7d"',
            ),
            (
                '[policy.p]\nkeep_every = { "1d" = 0 }',
                "a:2: policy.p.keep_every.1d: must be at least 1, not 0",
            ),
            (
                "[policy.p]\nhourly_warn = 90",
                'a:2: policy.p.hourly_warn: must be like "90m", or 0 for never, not 90',
            ),
            (
                '[policy.p]\nhourly_warn = "90"',
                'a:2: policy.p.hourly_warn: \'90\' is not a duration; write it like "90m", "24h" or "7d"',
            ),
            (
                "[policy.p]\nscript_timeout = -1",
                'a:2: policy.p.script_timeout: must be like "30s", '
                "or whole seconds up to a day; 0 waits for ever, not -1",
            ),
            (
                "[policy.p]\nscript_timeout = true",
                'a:2: policy.p.script_timeout: must be like "30s", '
                "or whole seconds up to a day; 0 waits for ever, not true",
            ),
            (
                "[pool.tank]\nspace_high = 90",
                "a:2: pool.tank.space_high: means nothing without space_low",
            ),
            ("[pool.tank]\nspace_low = 90", "a:2: pool.tank.space_low: means nothing without space_high"),
            (
                "[pool.tank]\nspace_high = 80\nspace_low = 80",
                "a:2: pool.tank.space_high: must be more than space_low (80)",
            ),
            (
                "[pool.tank]\ncapacity_warn = 90\ncapacity_crit = 80",
                "a:2: pool.tank.capacity_warn: must be at most capacity_crit (80)",
            ),
            (
                '[pool."tank/a"]',
                'a:1: pool."tank/a": "tank/a" is a dataset; these limits are of whole pools, like "tank"',
            ),
        ],
    )
    def test_each_says_where_and_what(self, text: str, expected: str) -> None:
        assert mistakes(text) == [expected]

    def test_a_folder_of_zones_is_no_zone(self) -> None:
        (told,) = mistakes('[snapshots]\ntimezone = "Europe"')
        assert told.startswith(
            'a:2: snapshots.timezone: "Europe" is no time zone known here; did you mean "Eu'
        )

    def test_a_circle_is_told_of_each_in_it_and_of_no_other(self) -> None:
        text = '[policy.a]\nextends = "b"\n[policy.b]\nextends = "a"\n[policy.c]\nextends = "a"'
        assert mistakes(text) == [
            'a:2: policy.a.extends: "a" extends itself',
            'a:4: policy.b.extends: "b" extends itself',
        ]

    def test_a_base_that_a_broken_file_may_define_is_not_missed(self) -> None:
        assert len(mistakes("[policy.base", '[policy.p]\nextends = "base"')) == 1

    def test_a_mistake_of_each_new_kind_in_one_go(self) -> None:
        told = mistakes(
            '[policy.p]\nextends = "q"\ntimezone = "Mars"\nkeep_every = { x = 1 }\nhourly_warn = true\n'
            "[pool.tank]\nspace_high = 10\n",
            '[snapshots]\ntimezone = "Moon"\n[pool.pond]\nspace_low = 1\n[policy.r]\nextends = "s"',
        )
        assert [line.split(": ")[0] for line in told] == [
            "a:3",
            "a:4",
            "a:5",
            "a:7",
            "b:2",
            "b:4",
            "b:6",
        ]

    def test_a_dataset_without_quotes_is_explained(self) -> None:
        (told,) = mistakes('[policy.p]\n[dataset.tank/home]\npolicy = "p"')
        assert told.startswith("a:2: is not TOML:")
        assert told.endswith('Did you mean "[dataset."tank/home"]"?')

    def test_a_broken_file_hides_no_mistake_of_another_and_is_blamed_for_none(self) -> None:
        told = mistakes("[policy.p", '[dataset.a]\npolicy = "p"\nrecursiv = true')
        assert [line.split(":")[0] for line in told] == ["a", "b"]
        assert 'Did you mean "recursive"?' in told[1]

    def test_a_key_set_in_two_files_names_both_places(self) -> None:
        assert mistakes("[mesh]\nlisten_port = 1", "\n[mesh]\nlisten_port = 1") == [
            "b:3: mesh.listen_port: is set already at a:2"
        ]
        assert mistakes("[mesh]\nendpoints = []", "[mesh]\nendpoints = []") == [
            "b:2: mesh.endpoints: is set already at a:2"
        ]

    def test_the_same_rule_twice_names_both_places(self) -> None:
        rule = '[[replicate]]\nfrom = "tank/a"\nto = "nas"\n'
        assert mistakes(rule, '[[replicate]]\nfrom = "tank/a"\nto = ["vps", "nas"]') == [
            "b:3: replicate[1].to: tank/a to nas is set already at a:2"
        ]
        share = '[[share]]\ndataset = "tank/a"\nto = "nas"\n'
        assert mistakes(share + share) == ["a:6: share[1].to: tank/a to nas is set already at a:2"]
        assert len(mistakes('[[replicate]]\nfrom = "tank/a"\nto = ["nas", "nas"]')) == 1

    def test_a_mistake_in_a_rule_of_the_second_file_is_placed_there(self) -> None:
        rule = '[[replicate]]\nfrom = "tank/a"\nto = "nas"\n'
        assert mistakes(rule, '# b\n[[replicate]]\nfrom = "tank/b"\nto = "nas"\nfast = true') == [
            "b:5: replicate[1].fast: unknown key"
        ]


class TestLines:
    def test_strings_lists_and_comments_do_not_mislead(self) -> None:
        text = '''\
# [not] = "a header"
top = """
[not.a.header]
key = 1
"""  # done
list = [
  "]", # ]
  "#",
]
raw = \'\'\'
it's [x]\'\'\'
inline = { a = [1, 2], b = "}" }
[a."b.c".\'d e\'] # c
"quoted \\u0041" = 1
x.y.z = 2
[[rows]]
n = 1
[[rows]]
n = 2
[rows.sub]
m = 3
'''
        tomllib.loads(text)
        assert key_lines(text) == {
            ("top",): 2,
            ("list",): 6,
            ("raw",): 10,
            ("inline",): 12,
            ("a",): 13,
            ("a", "b.c"): 13,
            ("a", "b.c", "d e"): 13,
            ("a", "b.c", "d e", "quoted A"): 14,
            ("a", "b.c", "d e", "x"): 15,
            ("a", "b.c", "d e", "x", "y"): 15,
            ("a", "b.c", "d e", "x", "y", "z"): 15,
            ("rows",): 16,
            ("rows", 0): 16,
            ("rows", 0, "n"): 17,
            ("rows", 1): 18,
            ("rows", 1, "n"): 19,
            ("rows", 1, "sub"): 20,
            ("rows", 1, "sub", "m"): 21,
        }

    @pytest.mark.parametrize(
        "text", ["", "\n", "# only", "a = 1", "a = 1\r\nb = 2\r\n", 'a = """x""""\nb = 1']
    )
    def test_small_texts(self, text: str) -> None:
        assert set(key_lines(text)) == {(key,) for key in tomllib.loads(text)}
