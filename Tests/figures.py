"""Figures of Sources/, as `make figures` prints them; Tests/walls.py holds them to BOUNDS.

    python3 Tests/figures.py [--circles] [--undocumented]    which files name which in each circle; what has no comment

Swift is not parsed here, only read closely enough: comments and the text of strings are taken away (what a string
interpolates stays), then declarations are found by their keywords and scopes by their braces.
"""

import argparse
import collections
import pathlib
import re
import statistics
import typing

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Bounds(typing.NamedTuple):
    longest_file: int  # lines
    longest_function: int  # lines, from `func` to its closing brace
    largest_circle: int  # files of a target that name each other's types, directly or around corners
    least_documented: float  # share of each target's `package` declarations with a comment of three slashes
    most_unchecked: int  # `@unchecked Sendable` in all of Sources: each is a proof that a person has to make


BOUNDS = Bounds(longest_file=500, longest_function=60, largest_circle=2, least_documented=0.95, most_unchecked=12)

# Where code turns into a comment or a string, and which parentheses end an interpolation.
IN_CODE = re.compile(r'//[^\n]*|/\*|(?P<hashes>#*)(?P<quote>"""|")|[()]')
IN_COMMENT = re.compile(r"/\*|\*/")
MODIFIER = (
    r"(?:@\w+(?:\([^)]*\))?|package|internal|private|fileprivate|static|class|final|mutating|nonmutating|override|lazy"
    r"|weak|indirect|nonisolated|borrowing|consuming|required|convenience|prefix|infix|postfix|unowned)"
    r"(?:\((?:set|unsafe|safe)\))?")
MODIFIERS = rf"^[ \t]*(?P<modifiers>(?:{MODIFIER}\s+)*)"
FUNCTION = re.compile(MODIFIERS + r"(?:func\s+(?P<name>\S+?)\s*[(<]|(?:init|subscript)\s*[?!]?\s*[(<]|deinit\b|var\s+\w)", re.M)
PACKAGE = re.compile(MODIFIERS + r"(?=(?:func|var|let|init|subscript|struct|enum|class|actor|protocol|typealias|case)\b)", re.M)
TYPE = re.compile(
    MODIFIERS + r"(?P<kind>struct|enum|class|actor|protocol|typealias|extension)\s+(?!func\b|var\b|let\b|subscript\b)"
    r"(?P<name>[\w.]+)", re.M)
WORD = re.compile(r"(?<![.\w])[A-Za-z_]\w*(?:\.[A-Z]\w*)*")


def code_of(text):
    """The text without its comments and without what its strings say; each line stays where it is."""
    out = []

    def newlines(start, end):
        out.append("\n" * text.count("\n", start, end))

    def comment(at):
        depth = 1
        while depth and (found := IN_COMMENT.search(text, at)):
            depth += 1 if found[0] == "/*" else -1
            at = found.end()
        return at if depth == 0 else len(text)

    def string(at, hashes, quote):
        stops = re.compile(rf'\\{hashes}\(|\\{hashes}.|{quote}{hashes}' + ("" if quote == '"""' else "|\n"), re.S)
        out.append('"')
        while found := stops.search(text, at):
            newlines(at, found.end())
            at = found.end()
            if found[0] == f"\\{hashes}(":
                out.append("(")
                at = code(at, inside=True)
            elif found[0][0] != "\\":
                break
        out.append('"')
        return at

    def code(at, inside=False):
        depth = 1
        while found := IN_CODE.search(text, at):
            out.append(text[at:found.start()])
            at = found.end()
            if found["quote"]:
                at = string(at, found["hashes"], found["quote"])
            elif found[0] == "/*":
                at = comment(at)
                newlines(found.start(), at)
            elif found[0] in "()":
                out.append(found[0])
                depth += 1 if found[0] == "(" else -1
                if inside and depth == 0:
                    return at
        out.append(text[at:])
        return len(text)

    code(0)
    return "".join(out)


def body(code, at):
    """Start and end of the braces of the declaration that begins at `at`; None if it has none (a protocol's)."""
    depth = 0
    for found in re.compile(r"[(\[{}\])]|\n(?!\s*(?:->|where\b|throws\b|async\b|\{))").finditer(code, at):
        sign = found[0]
        if sign == "{" and depth == 0:
            return found.start(), closing(code, found.start())
        if depth == 0 and sign in "\n})]":
            return None
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(sign, 0)
    return None


def closing(code, at):
    depth = 0
    for found in re.compile(r"[{}]").finditer(code, at):
        depth += 1 if found[0] == "{" else -1
        if depth == 0:
            return found.end()
    return len(code)


class File:
    """One file of Swift, read."""

    def __init__(self, path):
        self.path = path
        self.text = path.read_text()
        self.lines = self.text.splitlines()
        self.code = code_of(self.text)

    def line(self, offset):
        return self.code.count("\n", 0, offset) + 1

    def functions(self):
        """Line and length of each function, initialiser, subscript and computed property that has a body."""
        for found in FUNCTION.finditer(self.code):
            if braces := body(self.code, found.end() - 1):
                first = self.line(found.start())
                yield first, self.line(braces[1]) - first + 1

    def declarations(self):
        """Line of each `package` declaration, and whether a comment of three slashes stands above it."""
        for found in PACKAGE.finditer(self.code):
            if "package" not in found["modifiers"].split():
                continue
            line = above = self.line(found.end())
            while above > 1 and self.lines[above - 2].lstrip().startswith("@"):
                above -= 1
            yield line, above > 1 and self.lines[above - 2].lstrip().startswith("///")

    def types(self):
        """Each type that is declared or extended here: (full name, "extension" or another kind, is it private?)."""
        scopes = []  # (end, full name, is private)
        for found in TYPE.finditer(self.code):
            scopes = [scope for scope in scopes if found.start() < scope[0]]
            outer = scopes[-1] if scopes else (0, "", False)
            name = f"{outer[1]}.{found['name']}" if outer[1] else found["name"]
            private = outer[2] or bool({"private", "fileprivate"} & set(found["modifiers"].split()))
            yield name, found["kind"], private
            if found["kind"] != "typealias" and (start := self.code.find("{", found.end())) >= 0:
                scopes.append((closing(self.code, start), name, private))

    def free_functions(self):
        """Names of the functions at the level of the file that others can call."""
        for found in FUNCTION.finditer(self.code):
            if found["name"] and not self.code[found.start():].startswith((" ", "\t")) \
                    and not {"private", "fileprivate"} & set(found["modifiers"].split()):
                yield found["name"]


def names(files):
    """Which file names a type (or calls a free function) of which other: {file: {file}}."""
    home, nested, functions = {}, collections.defaultdict(dict), {}
    types = {file: list(file.types()) for file in files}
    for file in files:
        for name, kind, private in types[file]:
            if private or kind == "extension":
                continue
            home.setdefault(name, file)
        for name in file.free_functions():
            functions.setdefault(name, file)
    graph = {}
    for file in files:
        # A name that is declared here is not somebody else's; inside a type (also in its extensions) the types
        # nested in it are called by their last name alone.
        own = {name.split(".")[-1] for name, kind, _ in types[file] if kind != "extension"}
        around = {name for name, _, _ in types[file]}
        found = set()
        for word in set(WORD.findall(file.code)):
            parts = word.split(".")
            if parts[0] in own:
                continue
            for count in range(1, len(parts) + 1):
                full = ".".join(parts[:count])
                found |= {home[name] for name in [full] + [f"{outer}.{full}" for outer in around] if name in home}
        for name, where in functions.items():
            if where is not file and re.search(rf"(?<![.\w]){re.escape(name)}\s*\(", file.code) \
                    and not re.search(rf"\bfunc\s+{re.escape(name)}\b", file.code):
                found.add(where)
        graph[file] = found - {file}
    return graph


def circles(graph):
    """The strongly connected parts of the graph that have more than one member (Tarjan)."""
    number, low, stack, result = {}, {}, [], []

    def visit(node):
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in graph[node]:
            if other not in number:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], number[other])
        if low[node] == number[node]:
            start = stack.index(node)
            if len(stack) - start > 1:
                result.append(stack[start:])
            del stack[start:]

    for node in graph:
        if node not in number:
            visit(node)
    return result


class House:
    """All of Sources/ below a root, measured."""

    def __init__(self, root=ROOT):
        self.root = root
        self.files = [File(path) for path in sorted((root / "Sources").rglob("*.swift"))]
        targets = collections.defaultdict(list)
        for file in self.files:
            targets[file.path.relative_to(root / "Sources").parts[0]].append(file)
        self.functions = [(length, self.place(file, line)) for file in self.files for line, length in file.functions()]
        self.graphs = {target: names(files) for target, files in targets.items()}
        self.circles = [
            (target, sorted(circle, key=lambda file: file.path.name))
            for target, graph in self.graphs.items() for circle in circles(graph)]
        self.declared, self.undocumented = collections.Counter(), collections.defaultdict(list)
        for target, files in targets.items():
            for file in files:
                for line, is_documented in file.declarations():
                    self.declared[target] += 1
                    if not is_documented:
                        self.undocumented[target].append(f"{self.place(file, line)}: {file.lines[line - 1].strip()}")
        self.unchecked = [
            self.place(file, file.line(found.start()))
            for file in self.files for found in re.finditer(r"@unchecked\s+Sendable", file.code)]

    def place(self, file, line):
        return f"{file.path.relative_to(self.root)}:{line}"

    def documented(self, target=None):
        targets = [target] if target else list(self.declared)
        declared = sum(self.declared[target] for target in targets)
        return 1 - sum(len(self.undocumented[target]) for target in targets) / declared if declared else 1.0

    def breaches(self, bounds=BOUNDS):
        """One line for each figure that is out of bounds: FILE:LINE: what."""
        for file in self.files:
            if len(file.lines) > bounds.longest_file:
                yield f"{self.place(file, len(file.lines))}: has more than {bounds.longest_file} lines: split it"
        for length, place in self.functions:
            if length > bounds.longest_function:
                yield f"{place}: a function of {length} lines, more than {bounds.longest_function}: split it"
        for target, circle in self.circles:
            if len(circle) > bounds.largest_circle:
                yield (f"{self.place(circle[0], 1)}: {len(circle)} files of {target} name each other in a circle, more "
                       f"than {bounds.largest_circle} (`make figures` shows who whom): "
                       + " ".join(file.path.name for file in circle))
        for target in self.declared:
            if self.documented(target) < bounds.least_documented:
                yield (f"{self.undocumented[target][0]}: {self.documented(target):.1%} of the `package` declarations of "
                       f"{target} have a comment, fewer than {bounds.least_documented:.0%}")
        if len(self.unchecked) > bounds.most_unchecked:
            yield f"{self.unchecked[-1]}: @unchecked Sendable {len(self.unchecked)} times, more than {bounds.most_unchecked}"

    def report(self, with_circles, with_undocumented):
        lengths = [len(file.lines) for file in self.files]
        longest = max(self.files, key=lambda file: len(file.lines))
        comments = sum(line.lstrip().startswith("//") for file in self.files for line in file.lines)
        print(f"files       {len(lengths)}, {sum(lengths)} lines; median {statistics.median(lengths):g}, longest "
              f"{len(longest.lines)} ({longest.path.name}); {comments / sum(lengths):.1%} are lines of comment")
        print(f"functions   {len(self.functions)}; longest:")
        for length, place in sorted(self.functions, reverse=True)[:5]:
            print(f"            {length:4} lines  {place}")
        print(f"documented  {self.documented():.1%} of {sum(self.declared.values())} package declarations")
        for target in sorted(self.declared):
            print(f"            {self.declared[target] - len(self.undocumented[target]):4} of "
                  f"{self.declared[target]:4}  {target}")
        print(f"unchecked   {len(self.unchecked)} @unchecked Sendable")
        print(f"circles     {len(self.circles)} among the files of one target")
        for target, circle in self.circles:
            print(f"            {len(circle):4} files  {target}: {' '.join(file.path.name for file in circle)}")
            for file in circle if with_circles else []:
                whom = sorted(other.path.name for other in self.graphs[target][file] if other in circle)
                print(f"                        {file.path.name} names {' '.join(whom)}")
        for target in self.undocumented if with_undocumented else []:
            print("\n".join(self.undocumented[target]))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--circles", action="store_true", help="which files name which in each circle")
    arguments.add_argument("--undocumented", action="store_true", help="package declarations without a comment")
    chosen = arguments.parse_args()
    House().report(chosen.circles, chosen.undocumented)
