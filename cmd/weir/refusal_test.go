package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirmq/weir/cluster"
	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/vfs"
)

// refusalCase is damage for which the broker does not start.
type refusalCase struct {
	name string
	// file is what is damaged and named, below the data directory; a pattern for a snapshot. pos is what the message has to give, below 0
	// where there is no position.
	file string
	pos  func(d *rotDir, path string) int64
	// damage is done to path.
	damage func(d *rotDir, path string)
	// next is in the advice.
	next string
}

// TestRefusals: the broker does not start on metadata that is damaged, missing or another's. It names the file, the position of the fault and
// what can be done, and changes nothing.
func TestRefusals(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a broker for each case")
	}
	templates := map[string]string{"after a stop": rotTemplate(t, true), "after a kill": rotTemplate(t, false)}
	snapshots := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(snapshots, os.DirFS(templates["after a stop"])); err != nil {
		t.Fatal(err)
	}
	takeSnapshot(t, snapshots)
	f := func(cases []refusalCase, how, template string) {
		for _, c := range cases {
			t.Run(c.name+" "+how, func(t *testing.T) {
				d := &rotDir{t: t, path: filepath.Join(t.TempDir(), "data")}
				if err := os.CopyFS(d.path, os.DirFS(template)); err != nil {
					t.Fatal(err)
				}
				paths, err := filepath.Glob(d.file(c.file))
				if err != nil || len(paths) != 1 {
					t.Fatalf("%s: %q, %v: want one file", c.file, paths, err)
				}
				pos := int64(-1)
				if c.pos != nil {
					pos = c.pos(d, paths[0])
				}
				c.damage(d, paths[0])
				d.refused(paths[0], pos, c.next)
			})
		}
	}
	for how, template := range templates {
		f(refusedLogs(), how, template)
		f(refusedSmallFiles(), how, template)
	}
	f(refusedSnapshots(), "", snapshots)
}

// refused: the broker does not start, names the file and the position and says what can be done. The file is as it was.
func (d *rotDir) refused(path string, pos int64, next string) {
	d.t.Helper()
	before, err := os.ReadFile(path)
	stdout, stderr, status := run(d.t, "", "serve", "--data-dir", d.path, "--listen", "127.0.0.1:0")
	if status != 1 || stdout != "" {
		d.t.Errorf("exit status %d, output %q; want 1 and no word of being ready", status, stdout)
	}
	at := ""
	if pos >= 0 {
		at = fmt.Sprintf("at byte %d:", pos)
	}
	_, message, _ := strings.Cut(stderr, "weir: ")
	message, advice, _ := strings.Cut(message, "\nwhat to do: ")
	if !strings.Contains(message, path) || !strings.Contains(message, at) || !strings.Contains(advice, next) || next == "" {
		d.t.Errorf("the message must have %q, %q and the advice %q\n%s", path, at, next, stderr)
	}
	if after, afterErr := os.ReadFile(path); string(after) != string(before) || (err == nil) != (afterErr == nil) {
		d.t.Errorf("%s was changed", path)
	}
	if _, err := os.Stat(d.file("rot-0")); err != nil {
		d.t.Errorf("the records: %v", err)
	}
}

// at is a position that the damage does not decide.
func at(pos int64) func(*rotDir, string) int64 { return func(*rotDir, string) int64 { return pos } }

// rewrite is damage that gives a file other bytes.
func rewrite(change func(b []byte) []byte) func(d *rotDir, path string) {
	return func(d *rotDir, path string) { d.change(path, change) }
}

func clearAll(b []byte) []byte   { clear(b); return b }
func cutToNothing([]byte) []byte { return nil }

// removeIt is damage.
func removeIt(d *rotDir, path string) {
	if err := os.RemoveAll(path); err != nil {
		d.t.Fatal(err)
	}
}

// refusedLogs damages the log of the metadata.
func refusedLogs() (cases []refusalCase) {
	const restore = "restore __cluster_metadata"
	for name, pick := range map[string]func(batches []rotBatch) rotBatch{
		"head":   func(b []rotBatch) rotBatch { return b[0] },
		"middle": func(b []rotBatch) rotBatch { return b[len(b)/2] },
		"tail":   func(b []rotBatch) rotBatch { return b[len(b)-1] },
	} {
		f := func(what string, pos func(b rotBatch) int64, damage func(d *rotDir, path string, b rotBatch)) {
			cases = append(cases, refusalCase{what + " in the " + name + " of the metadata log", metadataLog,
				func(d *rotDir, path string) int64 { return pos(pick(d.batches(path))) },
				func(d *rotDir, path string) { damage(d, path, pick(d.batches(path))) }, restore})
		}
		f("bit", rotBatch.crcPos, func(d *rotDir, path string, b rotBatch) { d.flip(path, b.payload()) })
		f("zeros", func(b rotBatch) int64 { return b.pos + 16 }, func(d *rotDir, path string, b rotBatch) { d.zero(path, int(b.pos), int(b.end-b.pos)) })
		f("offset", func(b rotBatch) int64 { return b.pos }, func(d *rotDir, path string, b rotBatch) { d.flip(path, int(b.pos)+6) })
	}
	return append(cases,
		refusalCase{"zeros over the metadata log", metadataLog, at(16), rewrite(clearAll), restore},
		refusalCase{"nothing in the metadata log", metadataLog, at(0), rewrite(cutToNothing), restore},
		refusalCase{"no metadata log", "__cluster_metadata-0", at(0), removeIt, restore},
		refusalCase{"key of partition.metadata", "__cluster_metadata-0/partition.metadata", at(11), func(d *rotDir, path string) { d.flip(path, 12) }, restore},
		refusalCase{"id in partition.metadata", "__cluster_metadata-0/partition.metadata", nil, rewrite(func(b []byte) []byte {
			return []byte(strings.Replace(string(b), "AAAAQ", "AAABQ", 1))
		}), restore},
	)
}

// refusedSmallFiles damages the files of a few lines.
func refusedSmallFiles() []refusalCase {
	const meta, restore, unreadable = "meta.properties", "restore __cluster_metadata", "weir doctor"
	line := func(key string) func(d *rotDir, path string) int64 {
		return func(d *rotDir, path string) int64 {
			b, err := os.ReadFile(path)
			if err != nil {
				d.t.Fatal(err)
			}
			return int64(strings.Index(string(b), key))
		}
	}
	over := func(old, new string) func(d *rotDir, path string) {
		return rewrite(func(b []byte) []byte { return []byte(strings.Replace(string(b), old, new, 1)) })
	}
	directory := func(d *rotDir, path string) {
		removeIt(d, path)
		if err := os.Mkdir(path, 0o700); err != nil {
			d.t.Fatal(err)
		}
	}
	return []refusalCase{
		{"head of quorum-state", quorumState, at(0), over("weir", "wair"), restore},
		{"term in quorum-state", quorumState, line("term"), over("term ", "term x"), restore},
		{"vote in quorum-state", quorumState, line("crc"), over("vote 2", "vote 3"), restore},
		{"tail of quorum-state", quorumState, line("crc"), over("crc ", "crc 1"), restore},
		{"zeros in quorum-state", quorumState, at(0), rewrite(clearAll), restore},
		{"nothing in quorum-state", quorumState, at(0), rewrite(cutToNothing), restore},
		{"no quorum-state", quorumState, nil, removeIt, restore},
		{"zeros in meta.properties", meta, at(0), rewrite(clearAll), "correct it if it is text"},
		{"nothing in meta.properties", meta, at(0), rewrite(cutToNothing), "correct it if it is text"},
		{"key in meta.properties", meta, line("node.id"), over("node.id=", "node.id:"), "correct it if it is text"},
		{"no meta.properties", meta, nil, removeIt, "write it again"},
		{"another node's meta.properties", meta, nil, over("node.id=1", "node.id=3"), "set node.id"},
		{"another cluster's meta.properties", meta, nil, over("cluster.id=", "cluster.id=x"), "correct its cluster.id"},
		{"unreadable recovery points", "recovery-point-offset-checkpoint", nil, directory, unreadable},
		{"unreadable log starts", "log-start-offset-checkpoint", nil, directory, unreadable},
	}
}

// refusedSnapshots damages the snapshot of the metadata.
func refusedSnapshots() (cases []refusalCase) {
	const file, restore, crc, length = "__cluster_metadata/*.image", "restore __cluster_metadata", 8, 12
	f := func(name string, pos func(*rotDir, string) int64, damage func(b []byte) []byte) {
		cases = append(cases, refusalCase{name + " the snapshot", file, pos, rewrite(damage), restore})
	}
	f("bit in the head of", at(0), func(b []byte) []byte { b[3] ^= 4; return b })
	f("bit in the CRC of", at(crc), func(b []byte) []byte { b[crc] ^= 4; return b })
	f("bit in the length of", at(length), func(b []byte) []byte { b[length+7] ^= 4; return b })
	f("bit in the middle of", at(crc), func(b []byte) []byte { b[len(b)/2] ^= 4; return b })
	f("bit in the tail of", at(crc), func(b []byte) []byte { b[len(b)-1] ^= 4; return b })
	f("zeros in the head of", at(0), func(b []byte) []byte { clear(b[:20]); return b })
	f("zeros in the middle of", at(crc), func(b []byte) []byte { clear(b[len(b)/2:][:16]); return b })
	f("zeros in the tail of", at(crc), func(b []byte) []byte { clear(b[len(b)-16:]); return b })
	f("zeros over", at(0), clearAll)
	f("nothing in", at(0), cutToNothing)
	f("half of", at(length), func(b []byte) []byte { return b[:len(b)/2] })
	return cases
}

// metadataLog and quorumState are files of the metadata in a data directory.
const (
	metadataLog = "__cluster_metadata-0/00000000000000000000.log"
	quorumState = "__cluster_metadata/quorum-state"
)

// takeSnapshot has a node of the metadata write a snapshot, which the broker does after 16 MiB of changes, and some entries after it.
// The path is returned.
func takeSnapshot(t *testing.T, dir string) string {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	store, err := engine.OpenStore(engine.StoreOptions{Dirs: []string{dir}, NodeID: 1, Logger: quiet,
		Config: func(string) engine.LogConfig { return cluster.LogConfig() }})
	if err != nil {
		t.Fatal(err)
	}
	node, err := cluster.Start(cluster.Options{NodeID: 1, Store: store, Dir: dir, FS: vfs.OS(), Logger: quiet, SnapshotBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := node.AllocateProducerIDs(context.Background(), 1); err != nil {
			t.Fatal(err)
		}
	}
	node.Stop()
	if err := store.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob(filepath.Join(dir, "__cluster_metadata", "*.image"))
	if err != nil || len(paths) != 1 {
		t.Fatalf("snapshots %q, %v: want one", paths, err)
	}
	return paths[0]
}
