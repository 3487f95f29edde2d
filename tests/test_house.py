"""What holds for every file of the package: how long, how wide, who prints, who spells the names of a run's files."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import ssl_video

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted({path.resolve() for room in ("ssl_video", "pretexts", "eval") for path in (ROOT / room).rglob("*.py")})
FILES_OF_A_RUN = {
    "config.yaml", "metrics.jsonl", "replaced.json", "probe.json", "report.md", "report.png",
    "backbone.safetensors", "pretext.safetensors", "classifier.safetensors",
}  # fmt: skip
FOLDERS_OF_A_RUN = {"lists", "checkpoints", "tensorboard", "best"}


@cache
def parsed() -> dict[str, list[ast.AST]]:
    """The nodes of every file, once: to walk all trees takes seconds."""
    trees = {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
    return {file: list(ast.walk(tree)) for file, tree in trees.items()}


def functions(nodes: list[ast.AST]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def parameters_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Names, without ``self`` and ``cls``, ``*args`` and ``**options``."""
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def registered(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Is it a builder, whose parameters are options with names?"""
    return any(".register(" in ast.unparse(decorator) for decorator in function.decorator_list)


def verb(file: str, function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Is it a public verb, whose options are named by whoever calls it, as a command's flags are?"""
    return file in ("ssl_video/api.py", "ssl_video/api_video.py") and len(function.args.args) <= 7


def printing(nodes: list[ast.AST]) -> Iterator[ast.Call]:
    """Calls of print, but those of a child process that answers its parent."""
    children = [function for function in functions(nodes) if function.name in ("main", "answer_requests")]
    answers = {node for function in children for node in ast.walk(function)}
    calls = (node for node in nodes if isinstance(node, ast.Call) and node not in answers)
    return (call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print")


def names_spelled(nodes: list[ast.AST]) -> Iterator[str]:
    """Names of a run's files among the strings; a folder's is a word, which counts where it is put behind a path."""
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from {node.value.removeprefix("/")} & FILES_OF_A_RUN
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant):
            yield from {node.right.value} & FOLDERS_OF_A_RUN


def test_no_function_has_more_than_seven_parameters():
    wide = {
        f"{file}:{function.lineno} {function.name}"
        for file, nodes in parsed().items()
        for function in functions(nodes)
        if len(parameters_of(function)) > 7 and not registered(function) and not verb(file, function)
    }
    assert wide == set()


def test_no_file_is_longer_than_350_lines():
    assert [str(path) for path in FILES if len(path.read_text(encoding="utf-8").splitlines()) > 350] == []


def test_the_library_prints_nothing():
    outside = {file: nodes for file, nodes in parsed().items() if not file.startswith("ssl_video/cli/")}
    assert [f"{file}:{call.lineno}" for file, nodes in outside.items() for call in printing(nodes)] == []


def test_only_a_run_spells_the_names_of_its_files():
    # published data sets have folders and files of their own
    others = {f: n for f, n in parsed().items() if f != "ssl_video/run.py" and "datasets" not in Path(f).parts}
    assert [f"{file}: {name}" for file, nodes in others.items() for name in names_spelled(nodes)] == []


def test_no_module_is_called_like_a_public_verb():
    # with lazy imports the second ``sv.pretrain()`` would call the module
    assert set(ssl_video.__all__) & {path.stem for path in (ROOT / "ssl_video").iterdir()} == set()


MEDIA = ("torchcodec", "torchvision.io", "decord", "imageio", "moviepy")


def opens_media(node: ast.AST) -> bool:
    """Whether this calls av.open, or uses another library that reads or writes videos."""
    match node:
        case ast.Attribute(value=ast.Name("av"), attr="open") | ast.Attribute(attr="VideoCapture" | "VideoWriter"):
            return True
        case ast.ImportFrom(module=str(module), names=names):
            opener = module in ("av", "av.container") and "open" in {n.name for n in names}
            return module.startswith(MEDIA) or opener
        case ast.Import(names=names):
            return any(name.name.startswith(MEDIA) for name in names)
    return False


def test_one_module_alone_opens_media():
    opening = {file for file, nodes in parsed().items() for node in nodes if opens_media(node)}
    assert opening == {"ssl_video/video/fetch.py"}
