package broker

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/protocol"
)

// TestErrorTable holds the one table against the errors that the lower packages export: each has a row.
func TestErrorTable(t *testing.T) {
	source, err := os.ReadFile("errors.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range []string{"engine", "record", "cluster"} {
		names := exportedErrors(t, filepath.Join("..", pkg))
		if len(names) == 0 {
			t.Errorf("package %s exports no errors: is this test right?", pkg)
		}
		for _, name := range names {
			if pkg == "record" && name == "ErrTruncated" {
				continue // it is ErrCorrupt as well
			}
			if !strings.Contains(string(source), "{"+pkg+"."+name+",") {
				t.Errorf("errors.go has no row for %s.%s", pkg, name)
			}
		}
	}
	for _, row := range errorTable() {
		if got := errorCode(fmt.Errorf("wrapped: %w", row.err)); got != row.code {
			t.Errorf("%v: got %v, want %v", row.err, got, row.code)
		}
	}
}

// exportedErrors lists the package-level variables called Err... of a folder.
func exportedErrors(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != token.VAR {
				continue
			}
			for _, spec := range gen.Specs {
				for _, id := range spec.(*ast.ValueSpec).Names {
					if strings.HasPrefix(id.Name, "Err") {
						names = append(names, id.Name)
					}
				}
			}
		}
	}
	return names
}

func TestErrorCode(t *testing.T) {
	if got := errorCode(nil); got != protocol.ErrNone {
		t.Errorf("nil: got %v", got)
	}
	if got := errorCode(fmt.Errorf("x: %w", protocol.ErrInvalidTxnState)); got != protocol.ErrInvalidTxnState {
		t.Errorf("a code: got %v", got)
	}
	if got := errorCode(os.ErrClosed); got != protocol.ErrUnknownServerError {
		t.Errorf("unknown: got %v", got)
	}
	if got := errorText(protocol.ErrKafkaStorageError, engine.ErrOffline); got != "" {
		t.Errorf("a storage error tells the client %q", got)
	}
}
