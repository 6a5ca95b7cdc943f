package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/weirmq/weir/"

// mayImport is the import table of ARCHITECTURE.md: package folder -> folders of ours it may import.
// internal/* may be imported by all.
var mayImport = map[string][]string{
	"internal":    {},
	"vfs":         {},
	"compression": {},
	"netpoll":     {},
	"protocol":    {"compression", "record"},
	"record":      {"compression"},
	"ioqueue":     {"vfs"},
	"engine":      {"record", "compression", "ioqueue", "vfs"},
	"cluster":     {"engine", "record", "compression", "ioqueue", "vfs"},
	"broker":      {"netpoll", "protocol", "record", "compression", "ioqueue", "engine", "cluster", "vfs"},
	"bench":       {"protocol", "record", "compression"},
	"profiles":    {},
	"scripts":     {},
	"cmd":         {"broker", "bench", "cluster", "engine", "ioqueue", "vfs", "profiles", "scripts"},
}

// Limits of the house. longFiles and longFunctions are what exceeds them today; the lists may only shrink.
const (
	fileLinesMax     = 600
	functionLinesMax = 70
	lineRunesMax     = 160
)

var longFunctions = map[string]bool{}

// bareTypes have numbers that no comment explains, most of them fields of results.json; the list may only shrink.
var bareTypes = map[string]bool{"Comparison": true, "Difference": true, "Environment": true, "SyncSummary": true, "Second": true, "Latency": true,
	"CurvePoint": true, "Limits": true, "ProcSample": true, "ProfileError": true, "Results": true, "Summary": true, "BrokerCost": true,
	"GeneratorCost": true, "CodeError": true}

// source is one parsed Go file.
type source struct {
	path string // from the repository's root, with slashes
	text string
	file *ast.File
	fset *token.FileSet
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(filepath.Dir(dir))
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	fset := token.NewFileSet()
	walk(t, func(name string) {
		if !strings.HasSuffix(name, ".go") {
			return
		}
		text, err := os.ReadFile(filepath.Join(root(t), name))
		if err != nil {
			t.Fatal(err)
		}
		file, err := parser.ParseFile(fset, name, text, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, source{name, string(text), file, fset})
	})
	if len(all) < 50 {
		t.Fatalf("found only %d Go files: the walk is broken", len(all))
	}
	return all
}

// walk visits the repository's files, leaving out what git ignores.
func walk(t *testing.T, visit func(name string)) {
	t.Helper()
	base := root(t)
	err := filepath.WalkDir(base, func(full string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(base, full)
		if entry.IsDir() && (name == ".git" || name == "results" || name == ".cache" || entry.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !entry.IsDir() {
			visit(filepath.ToSlash(name))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestImportsFollowTheTable(t *testing.T) {
	for _, src := range sources(t) {
		top, _, _ := strings.Cut(src.path, "/")
		allowed, known := mayImport[top]
		if !known {
			t.Errorf("%s: folder %s is not in the import table", src.path, top)
			continue
		}
		for _, spec := range src.file.Imports {
			imported, ours := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module)
			if !ours {
				continue
			}
			folder, _, _ := strings.Cut(imported, "/")
			if folder == "internal" || folder == top || slices.Contains(allowed, folder) {
				continue
			}
			if strings.HasSuffix(src.path, "_test.go") && top == "cmd" {
				continue // tests of the binary may look at everything
			}
			t.Errorf("%s imports %s: %s may import %v", src.path, imported, top, allowed)
		}
	}
}

func TestFilesAndFunctionsStayShort(t *testing.T) {
	for _, src := range sources(t) {
		if strings.HasSuffix(src.path, "_test.go") {
			continue
		}
		if lines := strings.Count(src.text, "\n"); lines > fileLinesMax {
			t.Errorf("%s has %d lines, more than %d: split it", src.path, lines, fileLinesMax)
		}
		for number, line := range strings.Split(src.text, "\n") {
			if len([]rune(line)) > lineRunesMax {
				t.Errorf("%s:%d: the line is longer than %d", src.path, number+1, lineRunesMax)
			}
		}
		for _, decl := range src.file.Decls {
			function, ok := decl.(*ast.FuncDecl)
			if !ok || function.Body == nil {
				continue
			}
			begin, end := src.fset.Position(function.Pos()).Line, src.fset.Position(function.End()).Line
			name := path.Dir(src.path) + "." + function.Name.Name
			if end-begin+1 > functionLinesMax && !longFunctions[name] {
				t.Errorf("%s:%d: %s has %d lines, more than %d", src.path, begin, name, end-begin+1, functionLinesMax)
			}
		}
	}
}

func TestEveryPackageAndExportedNameIsDocumented(t *testing.T) {
	documented := map[string]bool{}
	folders := map[string]bool{}
	for _, src := range sources(t) {
		folder := path.Dir(src.path)
		if strings.HasSuffix(src.path, "_test.go") {
			continue
		}
		folders[folder] = true
		if src.file.Doc != nil && path.Base(src.path) == "doc.go" {
			documented[folder] = true
		}
		if src.file.Name.Name == "main" {
			continue
		}
		for _, decl := range src.file.Decls {
			for _, name := range undocumented(decl) {
				t.Errorf("%s:%d: exported %s has no comment", src.path, src.fset.Position(decl.Pos()).Line, name)
			}
		}
	}
	for folder := range folders {
		if !documented[folder] {
			t.Errorf("package %s has no doc.go with a package comment", folder)
		}
	}
}

// undocumented names the exported things of a declaration that no comment covers.
func undocumented(decl ast.Decl) (names []string) {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		if decl.Name.IsExported() && decl.Doc == nil && receiverExported(decl) {
			names = append(names, decl.Name.Name)
		}
	case *ast.GenDecl:
		for _, spec := range decl.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if !spec.Name.IsExported() {
					continue
				}
				if decl.Doc == nil && spec.Doc == nil && spec.Comment == nil {
					names = append(names, spec.Name.Name)
				}
				names = append(names, undocumentedMembers(spec, decl.Doc)...)
			case *ast.ValueSpec:
				for _, name := range spec.Names {
					if name.IsExported() && decl.Doc == nil && spec.Doc == nil && spec.Comment == nil {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}

// unitInName matches the names of numbers that say themselves what they count: a unit, or a thing that Kafka numbers.
var unitInName = regexp.MustCompile(`(Bytes|Ms|Millis|Seconds|US|PerSec|PerSecond|Count|Records|Requests|Connections|Partitions?|Offset|Epoch|ID|Position|Version|` +
	`Sequence|Key|Frames(In|Out)|Repeats|Cores|CPUs|Threads|Runs|Max|Min|GCs|Calls|Faults|Closes|Timeouts|Closed|Level|Port|Percent|CRC|Retries|Workers|Fetches)$`)

// undocumentedMembers names the methods of an exported interface that have no comment, and the exported numbers of an exported struct that
// have neither a comment nor a unit in their name, nor are named by the comment of the type or of a neighbour.
func undocumentedMembers(spec *ast.TypeSpec, doc *ast.CommentGroup) (names []string) {
	said := doc.Text() + spec.Doc.Text()
	member := func(fields *ast.FieldList, bare func(field *ast.Field, name string) bool) {
		for _, field := range fields.List {
			said += field.Doc.Text() + field.Comment.Text()
		}
		for _, field := range fields.List {
			for _, name := range field.Names {
				if name.IsExported() && field.Doc == nil && field.Comment == nil && bare(field, name.Name) &&
					!regexp.MustCompile(`\b`+name.Name+`\b`).MatchString(said) {
					names = append(names, spec.Name.Name+"."+name.Name)
				}
			}
		}
	}
	switch kind := spec.Type.(type) {
	case *ast.InterfaceType:
		member(kind.Methods, func(*ast.Field, string) bool { return true })
	case *ast.StructType:
		member(kind.Fields, func(field *ast.Field, name string) bool {
			if bareTypes[spec.Name.Name] {
				return false
			}
			basic, ok := field.Type.(*ast.Ident)
			return ok && numbers.MatchString(basic.Name) && !unitInName.MatchString(name)
		})
	}
	return names
}

// numbers matches the built-in types that are numbers.
var numbers = regexp.MustCompile(`^(u?int(8|16|32|64)?|float(32|64))$`)

func receiverExported(function *ast.FuncDecl) bool {
	if function.Recv == nil {
		return true
	}
	kind := function.Recv.List[0].Type
	if star, ok := kind.(*ast.StarExpr); ok {
		kind = star.X
	}
	switch index := kind.(type) {
	case *ast.IndexExpr:
		kind = index.X
	case *ast.IndexListExpr:
		kind = index.X
	}
	name, ok := kind.(*ast.Ident)
	return !ok || name.IsExported()
}

func TestNothingIsLeftUnfinished(t *testing.T) {
	marks := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b|not ` + `implemented|un` + `implemented`)
	for _, src := range sources(t) {
		for number, line := range strings.Split(src.text, "\n") {
			if marks.MatchString(line) {
				t.Errorf("%s:%d: unfinished: %s", src.path, number+1, strings.TrimSpace(line))
			}
		}
	}
}

func TestArchitectureMapIsTheTree(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, match := range regexp.MustCompile("(?m)^\\| `([a-z/_]+)/` \\|").FindAllStringSubmatch(string(text), -1) {
		named[match[1]] = true
	}
	packages := map[string]bool{}
	for _, src := range sources(t) {
		packages[path.Dir(src.path)] = true
	}
	for folder := range packages {
		if !named[folder] {
			t.Errorf("ARCHITECTURE.md's map lacks `%s/`", folder)
		}
	}
	for folder := range named {
		if _, err := os.Stat(filepath.Join(root(t), folder)); err != nil {
			t.Errorf("ARCHITECTURE.md's map names `%s/`, which is not in the tree", folder)
		}
	}
}

// TestArchitectureImportTableIsTheOneEnforced holds the table that people read against mayImport.
func TestArchitectureImportTableIsTheOneEnforced(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "| package | may import (ours) |\n|---|---|\n")
	if !found {
		t.Fatal("ARCHITECTURE.md has no import table")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	split := func(cell string) (names []string) {
		cell, _, _ = strings.Cut(cell, ":") // what follows explains
		for _, name := range strings.Split(cell, ",") {
			if name = strings.TrimSpace(name); name != "" && name != "internal/*" {
				names = append(names, name)
			}
		}
		return names
	}
	var above []string
	for _, row := range strings.Split(strings.TrimSpace(table), "\n") {
		cells := strings.Split(row, "|")
		if len(cells) != 4 {
			t.Fatalf("row %q", row)
		}
		want := split(cells[2])
		if len(want) == 1 && want[0] == "all of the above" {
			want = slices.Clone(above)
		}
		for _, name := range split(cells[1]) {
			got := slices.Clone(mayImport[name])
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%s: ARCHITECTURE.md allows it %v, the check %v", name, want, got)
			}
			above = append(above, name)
		}
	}
	for name := range mayImport {
		if !slices.Contains(above, name) && len(mayImport[name]) > 0 {
			t.Errorf("ARCHITECTURE.md's import table lacks %s", name)
		}
	}
}

func TestDocumentsLinkToWhatExists(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	walk(t, func(name string) {
		if !strings.HasSuffix(name, ".md") {
			return
		}
		text, err := os.ReadFile(filepath.Join(root(t), name))
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(root(t), path.Dir(name), match[1])); err != nil {
				t.Errorf("%s links to %s, which does not exist", name, match[1])
			}
		}
	})
}
