"""The figures that Sources/ is held to (Tests/figures.py): breaches planted in a house of two or three files are found,
and what only looks like one is not."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import figures  # noqa: E402

BOUNDS = figures.Bounds(
    longest_file=20, longest_function=5, largest_circle=2, least_documented=0.95, most_unchecked=1)


@pytest.fixture
def house(tmp_path):
    def build(**files):
        (tmp_path / "Sources/Room/Folder").mkdir(parents=True)
        for name, text in files.items():
            (tmp_path / f"Sources/Room/Folder/{name}.swift").write_text(text)
        return figures.House(tmp_path)
    return build


def found(house):
    return [breach.removeprefix("Sources/Room/Folder/") for breach in house.breaches(BOUNDS)]


def test_a_house_in_order(house):
    assert found(house(A="struct A { let b: B }\n", B="struct B {}\n")) == []


def test_a_long_file(house):
    assert found(house(A="//\n" * 20, B="//\n" * 21)) == ["B.swift:21: has more than 20 lines: split it"]


@pytest.mark.parametrize("head", [
    "func f() {",
    "    @inlinable internal mutating func f<T: P>(x: () -> Void = {}, y: [Int] = []) async throws(E) -> [T] where T: Q {",
    "    func f(\n        x: Int\n    ) -> Int\n    where Int: P {",
    "    convenience init?(x: Int) {",
    "    subscript(x: Int) -> Int {",
    "    deinit {",
    "    private var x: [Int] {",
    "    static func == (a: A, b: A) -> Bool {",
])
def test_a_long_function(house, head):
    def file(lines):
        return f"{head}\n" + '    say("}")  // }\n' * lines + "}\n"
    lines = 4 - head.count("\n")
    assert found(house(A=file(lines - 1), B=file(lines))) == ["B.swift:1: a function of 6 lines, more than 5: split it"]


def test_what_is_no_long_function(house):
    requirements = "protocol P {\n" + "    func f(x: Int) -> Int\n    init(x: Int)\n    var x: Int { get }\n" * 5 + "}\n"
    assert found(house(A=requirements, B="let x = [\n" + "    1,\n" * 9 + "]\n" + "let y = 1\n")) == []


NAMED = [
    "struct {0} {{ let other: {1} }}",
    "enum {0} {{ case other({1}?) }}",
    "struct {0} {{}}\nextension {0} {{ func f() {{ g({1}.self) }} }}",
    'struct {0} {{ let other = "\\({1}.all) and \\(1)" }}',
]


@pytest.mark.parametrize("declaration", NAMED)
def test_a_circle_of_three(house, declaration):
    breaches = found(house(A=declaration.format("A", "B"), B=declaration.format("B", "C"), C=declaration.format("C", "A")))
    assert breaches == [
        "A.swift:1: 3 files of Room name each other in a circle, more than 2 (`make figures` shows who whom): "
        "A.swift B.swift C.swift"]


def test_a_circle_through_nested_types_and_a_free_function(house):
    # B is in A's extension and calls Inner by its last name; C's function is called from A.
    assert len(found(house(
        A="struct A { enum Inner {}\n func f() { helper(1) } }",
        B="struct B {}\nextension A { func g(_ inner: Inner) {} }",
        C="func helper(_ x: B) {}"))) == 1


@pytest.mark.parametrize("last", [
    "struct C { let b = 1 /* A /* A */ A */ } // A",
    'struct C { let b = "A" }',
    'struct C { let b = #"\\(A) "A" "# }',
    'struct C { let b = """\n    A "A\n    """ }',
    "struct C {\n    struct A {}\n    let b: A\n}",
    "struct C { let b: Other.A; let a: Int }",
    "struct C { func helper() { helper() } }",
])
def test_no_circle(house, last):
    assert found(house(A="struct A { let b: B }\nfunc helper() {}", B="struct B { let c: C }", C=last)) == []


def test_a_pair_is_no_circle(house):
    assert found(house(A="struct A { let b: B }", B="struct B { let a: A }")) == []


DOCUMENTED = "/// Says something.\n@inlinable\npackage func f() {}\n\n    /// And this.\n    package private(set) var x = 1\n"


@pytest.mark.parametrize("declaration", [
    "package struct X {}", "    package static let x = 1", "    @inlinable package init() {}", "package typealias X = Int",
    "package final class X {}", "    package private(set) var x = 1", "    // Not this.\n    package func f() {}"])
def test_undocumented(house, declaration):
    (breach,) = found(house(A=DOCUMENTED, B=declaration + "\n"))
    assert breach == (f"B.swift:{declaration.count(chr(10)) + 1}: {declaration.splitlines()[-1].strip()}: 66.7% of the "
                      "`package` declarations of Room have a comment, fewer than 95%")


def test_what_needs_no_comment(house):
    assert found(house(A=DOCUMENTED, B="package import NIOCore\nfunc f() { let package = 1 }\nprivate struct X {}\n")) == []


def test_unchecked(house):
    assert found(house(A="class A: @unchecked Sendable {}\n// @unchecked Sendable\n")) == []


def test_unchecked_once_too_often(house):
    assert found(house(A="class A: @unchecked Sendable {}\n", B="class B: @unchecked\nSendable {}\n")) == [
        "B.swift:1: @unchecked Sendable 2 times, more than 1"]


def test_this_house():
    """What `make lint` says of Sources is said of something."""
    this = figures.House()
    assert len(this.files) > 200 and sum(this.declared.values()) > 1000 and len(this.functions) > 2000
    assert len(this.unchecked) > 5
