package broker

import "testing"

func TestOpenFilesMax(t *testing.T) {
	for _, c := range []struct {
		configured int64
		limit      uint64
		want       int
	}{{0, 600, 300}, {0, 20_000, 10_000}, {0, 1 << 20, openFilesMost}, {0, 1, 1}, {0, ^uint64(0), openFilesMost}, {70, 600, 70}, {100_000, 600, 100_000}} {
		if got := openFilesMax(c.configured, c.limit); got != c.want {
			t.Errorf("log.open.files.max=%d under a limit of %d: got %d, want %d", c.configured, c.limit, got, c.want)
		}
	}
}
