package lint

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMutantsFit: every way of scripts/mutants.list to break the code still finds the text that it breaks, once. Else the script, which takes
// minutes and is not run for every change, would be the first to tell.
func TestMutantsFit(t *testing.T) {
	const root = "../.."
	list, err := os.ReadFile(filepath.Join(root, "scripts", "mutants.list"))
	if err != nil {
		t.Fatal(err)
	}
	name, file, mutants := "", "", 0
	var from strings.Builder
	settle := func() {
		if name == "" {
			return
		}
		mutants++
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Errorf("mutant %s: %v", name, err)
		} else if n := strings.Count(string(text), strings.TrimSuffix(from.String(), "\n")); n != 1 {
			t.Errorf("mutant %s: %s has the text to break %d times, want once", name, file, n)
		}
		from.Reset()
	}
	for line := range strings.Lines(string(list)) {
		switch line[0] {
		case '\n', '#', '+':
		case '-':
			from.WriteString(line[1:])
		default:
			settle()
			name, file, _ = strings.Cut(strings.TrimSpace(line), " ")
			file, _, _ = strings.Cut(file, " ")
		}
	}
	settle()
	if mutants < 20 {
		t.Errorf("%d mutants were read", mutants)
	}
}
