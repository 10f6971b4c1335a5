"""``fleet docs cli``: the commands as Markdown, from their own parsers and views."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, get_args

import typer

from fleet_cli.exits import MEANS
from fleet_cli.oncall import commands, views
from fleet_contract.resources.base import Model

if TYPE_CHECKING:
    from collections.abc import Iterator

INTRODUCTION = """\
<!-- Made by `make generate` from cli/fleet_cli; edit that. -->
# The command line

`fleet` is also installed as `kubectl-fleet`, so that `kubectl fleet …` is the same. It reads the
kubeconfig as kubectl does: `--kubeconfig`, `KUBECONFIG`, `~/.kube/config`; `--context`;
`--namespace`, else that of the context. `fleet doctor` looks for the rights that it needs; to
rotate keys ([trust.md](trust.md)) and to enroll robots ([identity.md](identity.md)) takes more.

`--output json` prints one document with `apiVersion` and `kind`; below is what each holds. Fields
are added, not renamed. With `--watch` it prints one document a line. Everything that goes wrong
is one sentence on standard error that says what to do next.

## Recipes

Something is wrong, and it is three in the morning:

```sh
fleet doctor                       # each line is ok or a problem with its remedy
fleet get                          # every job in a line
fleet status JOB -w                # one screen: the trial, what is awaited, what to do next
```

A version does badly:

```sh
fleet abort JOB                    # the one on trial: back, for good
fleet rollback JOB                 # the one the fleet runs: back to the last that was good
fleet pause JOB                    # nobody takes anything up until `fleet resume JOB`
fleet history JOB                  # what was tried, and why it stands where it stands
```

A fleet that a person leads (`spec.rollout.mode: Manual`, or `spec.rollout.approval`):

```sh
fleet approve JOB                  # let robots try it
fleet promote JOB                  # let it go on as soon as its stage has passed
fleet skip JOB                     # do not wait for this stage's evidence
fleet retry JOB 7                  # try version 7 once more
```
Buttons name the version they saw, so that a press never hits a newer one; name it yourself where
two people work: `fleet abort JOB 7`. They are annotations that no Git repository holds, so a sync
neither undoes nor repeats them. The command waits for the operator's answer and ends with 1 where
it was not done, with 5 where nobody answered: the request then stands, and is done once the
operator looks at it.

Stay on a version:

```sh
fleet pin JOB 7                    # the whole fleet; in Git: spec.rollout.mode Pinned
fleet pin JOB 7 --robot arm-1      # one robot
fleet unpin JOB
```
A pin is an edit of a spec, and specs may belong to Git. Where Flux or Argo CD applies the object
(its labels, annotations and managed fields tell), the command prints the edit for Git, changes
nothing and ends with 1; `--force` makes it all the same, until the next sync.

A key gives way to another ([trust.md](trust.md) says what each signs):

```sh
fleet keys rotate learner          # waits until everybody knows the new one; then that signs
fleet doctor                       # what still needs the old one, or how it goes
```

Robots:

```sh
fleet robots list --job JOB
fleet robots enroll arm-1 --job JOB --site lab-2 --group left-bench > arm-1.env
fleet robots drain arm-1           # out of work, and idle
fleet robots undrain arm-1
fleet logs JOB -f                  # its learner; `fleet logs ROBOT` where it is a pod
```

In a script:

```sh
fleet get JOB -o json | jq -e '.items[0].stable >= 7'
fleet status JOB -w -o json | jq --unbuffered -r '.awaits'
```

Completion, also of the names of jobs and robots:

```sh
source <(fleet completion bash)    # zsh the same; fish: fleet completion fish | source
```

`kubectl fleet` completes through `kubectl_complete-fleet`, which is installed beside it.
"""


def render(app: typer.Typer) -> str:
    """The whole page."""
    root: Any = typer.main.get_command(app)
    return "\n".join(
        [
            INTRODUCTION,
            *_exits(),
            "## Commands",
            "",
            "Options of every command that asks a cluster:",
            "",
            *_shared(),
            *_commands("fleet", root),
            *_documents(),
        ]
    )


def _exits() -> Iterator[str]:
    yield from ("## Exit codes", "", "| code | meaning |", "|---|---|")
    for code, means in MEANS.items():
        yield f"| {code.value} | {means} |"
    yield ""


def _commands(path: str, group: Any) -> Iterator[str]:
    for name, command in sorted(group.commands.items()):
        at = f"{path} {name}"
        if hasattr(command, "commands"):
            yield from _commands(at, command)
            continue
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        options = [one for one in command.params if one.param_type_name == "option"]
        words = [_placeholder(one) for one in arguments]
        yield from (f"### {' '.join([at, *words])}", "", inspect.cleandoc(command.help or ""), "")
        own = [one for one in options if one.name != "help" and not _common(one)]
        rows = [(_placeholder(one), one.help, "") for one in arguments]
        rows += [(_switch(one), one.help, _default(one)) for one in own]
        if rows:
            yield from ("| | | Default |", "|---|---|---|")
            yield from (f"| `{what}` | {help_} | {default} |" for what, help_, default in rows)
            yield ""
        if shared := [_switch(one).split()[0].strip(",") for one in options if _common(one)]:
            yield from (f"And {', '.join(f'`{one}`' for one in shared)}.", "")


def _common(option: Any) -> bool:
    """Those of ``options``, told once for all."""
    return option.name in {"namespace", "context", "kubeconfig"} or "-o" in option.opts


def _shared() -> Iterator[str]:
    command: Any = typer.main.get_command(commands.app)
    yield from ("| | | Default |", "|---|---|---|")
    for one in filter(_common, command.commands["status"].params):
        yield f"| `{_switch(one)}` | {one.help} | {_default(one)} |"
    yield ""


def _placeholder(argument: Any) -> str:
    name = str(argument.metavar or argument.name).upper()
    name += "…" if argument.nargs == -1 else ""
    return name if argument.required else f"[{name}]"


def _switch(option: Any) -> str:
    both = ", ".join([*option.opts, *option.secondary_opts])
    return both if option.is_flag else f"{both} {(option.metavar or option.name).upper()}"


def _default(option: Any) -> str:
    value = getattr(option.default, "value", option.default)
    return "" if value in {None, "", False} or value == [] else f"`{value}`"


def _documents() -> Iterator[str]:
    yield from ("## Documents of --output json", "", f"`apiVersion: {views.API_VERSION}`.", "")
    for kind in _models():
        yield from (f"### {kind.__name__}", "", kind.__doc__ or "", "")
        yield from ("| field | type | |", "|---|---|---|")
        for field in kind.model_fields.values():
            yield f"| `{field.alias}` | {_type(field.annotation)} | {field.description} |"
        yield ""


def _models() -> Iterator[type[Model]]:
    for one in vars(views).values():
        if isinstance(one, type) and issubclass(one, Model) and one not in {Model, views.View}:
            yield one


def _type(annotation: Any) -> str:
    if isinstance(annotation, type) and not get_args(annotation):
        return WORDS.get(annotation, annotation.__name__)
    inner = [one for one in get_args(annotation) if one is not type(None)]
    if getattr(annotation, "__origin__", None) is list:
        return f"list of {_type(inner[0])}"
    if getattr(annotation, "__origin__", None) is dict:
        return "object"
    return _type(inner[0])


WORDS = {str: "string", int: "integer", float: "number", bool: "boolean"}
