package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
)

// rotCase is a way to rot.
type rotCase struct {
	name string
	// killed: the broker was killed before, else stopped cleanly.
	killed bool
	test   func(t *testing.T, d *rotDir)
}

// TestBitRot flips bits of and puts zeros over every kind of file. Rotten bytes are never served, nothing that is damaged is taken for
// empty, derived files are built anew, and a partition that is lost leaves the others alone.
func TestBitRot(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a broker for each case")
	}
	templates := map[bool]string{false: rotTemplate(t, true), true: rotTemplate(t, false)}
	for _, cases := range [][]rotCase{rotOfLogs(), rotOfDerivedFiles()} {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				d := &rotDir{t: t, path: filepath.Join(t.TempDir(), "data")}
				if err := os.CopyFS(d.path, os.DirFS(templates[c.killed])); err != nil {
					t.Fatal(err)
				}
				c.test(t, d)
			})
		}
	}
}

// cutAt starts the broker: partition 0 ends at an offset, for a fault above the recovery point.
func (d *rotDir) cutAt(path string, offset, pos int64) {
	d.t.Helper()
	s := serve(d.t, d.path)
	d.told(s, "log truncated", "rot-0", path, fmt.Sprint("pos=", pos))
	if end, err := d.read(s.address, 0, 0); err != nil || end != offset {
		d.t.Errorf("read up to offset %d, %v; want %d", end, err, offset)
	}
	if err := d.produce(s.address, 0); err != nil {
		d.t.Errorf("the partition takes no records: %v", err)
	}
	d.others(s)
	s.stop()
}

// offlineAt starts the broker: partition 0 can be read up to an offset, and is offline, because of a byte of a file; -1 is any.
func (d *rotDir) offlineAt(path string, offset, pos int64) {
	d.t.Helper()
	d.dumped(path, pos)
	s := serve(d.t, d.path)
	end, err := d.read(s.address, 0, 0)
	if end > offset || end == rotRecords*rotBatches {
		d.t.Errorf("read up to offset %d, %v; the fault is at %d", end, err, offset)
	}
	if end, err = d.read(s.address, 0, offset); end != offset || !errors.Is(err, kerr.KafkaStorageError) {
		d.t.Errorf("read at the fault: up to %d, %v; want KAFKA_STORAGE_ERROR at %d", end, err, offset)
	}
	if err := d.produce(s.address, 0); !errors.Is(err, kerr.KafkaStorageError) {
		d.t.Errorf("producing to the partition: got %v, want KAFKA_STORAGE_ERROR", err)
	}
	at := "corrupt at byte "
	if pos >= 0 {
		at = fmt.Sprintf("corrupt at byte %d:", pos)
	}
	d.told(s, "partition offline", "rot-0", path, at)
	d.others(s)
	s.stop()
}

// whole starts the broker: everything is there. The log of the start is returned.
func (d *rotDir) whole() *server {
	d.t.Helper()
	s := serve(d.t, d.path)
	if end, err := d.read(s.address, 0, 0); err != nil || end != rotRecords*rotBatches {
		d.t.Errorf("read up to offset %d, %v; want all %d", end, err, rotRecords*rotBatches)
	}
	// Every offset is found, by index or without.
	for offset := int64(0); offset < rotRecords*rotBatches; offset += 97 {
		if end, err := d.read(s.address, 0, offset); err != nil || end != rotRecords*rotBatches {
			d.t.Errorf("read from %d: up to offset %d, %v", offset, end, err)
		}
	}
	if err := d.produce(s.address, 0); err != nil {
		d.t.Errorf("the partition takes no records: %v", err)
	}
	d.others(s)
	s.stop()
	return s
}

// crcPos is where a batch has its CRC, payload a byte in the middle of its records.
func (b rotBatch) crcPos() int64 { return b.pos + 17 }
func (b rotBatch) payload() int  { return int(b.pos+b.end) / 2 }

func rotOfLogs() []rotCase {
	active := func(d *rotDir) (string, []rotBatch) { path := d.segments()[2]; return path, d.batches(path) }
	sealed := func(d *rotDir) (string, []rotBatch) { path := d.segments()[0]; return path, d.batches(path) }
	return []rotCase{
		{"bit in the records of a sealed segment after a stop", false, func(t *testing.T, d *rotDir) {
			path, batches := sealed(d)
			d.flip(path, batches[3].payload())
			d.offlineAt(path, batches[3].offset, batches[3].crcPos())
		}},
		{"bit in the records of a sealed segment after a kill", true, func(t *testing.T, d *rotDir) {
			path, batches := sealed(d)
			d.flip(path, batches[3].payload())
			d.offlineAt(path, batches[3].offset, batches[3].crcPos())
		}},
		{"zeros in the records of the active segment", false, func(t *testing.T, d *rotDir) {
			path, batches := active(d)
			d.zero(path, batches[1].payload(), 4096)
			d.offlineAt(path, batches[1].offset, batches[1].crcPos())
		}},
		{"bit in a base offset that no CRC covers", false, func(t *testing.T, d *rotDir) {
			path, batches := sealed(d)
			d.flip(path, int(batches[3].pos)+5)
			d.offlineAt(path, batches[3].offset, -1)
		}},
		{"bit in a base offset within the log", false, func(t *testing.T, d *rotDir) {
			path, batches := sealed(d)
			d.flip(path, int(batches[3].pos)+7)
			d.offlineAt(path, batches[3].offset, -1)
		}},
		{"bit in the tail", true, func(t *testing.T, d *rotDir) {
			path, batches := active(d)
			last := batches[len(batches)-1]
			d.setPoint(last.offset - rotRecords)
			d.flip(path, last.payload())
			d.cutAt(path, last.offset, last.pos)
		}},
		{"zeros in the tail", true, func(t *testing.T, d *rotDir) {
			path, batches := active(d)
			last := batches[len(batches)-1]
			d.setPoint(last.offset - rotRecords)
			d.zero(path, int(last.pos), int(last.end-last.pos))
			d.cutAt(path, last.offset, last.pos)
		}},
		{"bit below the recovery point in what is scanned", true, func(t *testing.T, d *rotDir) {
			path, batches := active(d)
			last := batches[len(batches)-1]
			d.flip(path, last.payload())
			d.offlineAt(path, last.offset, last.crcPos())
		}},
		{"zeros at the end of the file below the recovery point", true, func(t *testing.T, d *rotDir) {
			path, batches := active(d)
			last := batches[len(batches)-1]
			d.zero(path, int(last.pos), int(last.end-last.pos))
			d.offlineAt(path, last.offset, last.pos+16)
		}},
		{"zeros over a header in the middle of the active segment", false, func(t *testing.T, d *rotDir) {
			path, batches := active(d)
			b := batches[len(batches)/2]
			d.zero(path, int(b.pos), 61)
			d.offlineAt(path, b.offset, b.pos+16)
		}},
		{"bit in a batch's length in a sealed segment", false, func(t *testing.T, d *rotDir) {
			path, batches := sealed(d)
			b := batches[3]
			d.flip(path, int(b.pos)+8)
			d.offlineAt(path, b.offset, b.pos+8)
		}},
	}
}

func rotOfDerivedFiles() []rotCase {
	f := func(name string, damage func(d *rotDir, path string)) (cases []rotCase) {
		for _, killed := range []bool{false, true} {
			how := map[bool]string{false: "after a stop", true: "after a kill"}[killed]
			for _, segment := range []int{0, 2} {
				cases = append(cases, rotCase{fmt.Sprintf("%s of segment %d %s", name, segment, how), killed, func(t *testing.T, d *rotDir) {
					path := d.segments()[segment]
					damage(d, path)
					d.whole()
				}})
			}
		}
		return cases
	}
	beside := func(log, suffix string) string { return strings.TrimSuffix(log, ".log") + suffix }
	var cases []rotCase
	for _, suffix := range []string{".index", ".timeindex"} {
		over := func(change func(b []byte)) func(d *rotDir, path string) {
			return func(d *rotDir, path string) {
				path = beside(path, suffix)
				b, err := os.ReadFile(path)
				if errors.Is(err, os.ErrNotExist) || len(b) == 0 {
					b = make([]byte, 96) // a kill leaves an active segment's index in memory
					for i := range b {
						b[i] = byte(i)
					}
				}
				change(b)
				if err := os.WriteFile(path, b, 0o600); err != nil {
					d.t.Fatal(err)
				}
			}
		}
		cases = append(cases, f("bit in the "+suffix, over(func(b []byte) { b[len(b)/2] ^= 0x40 }))...)
		cases = append(cases, f("bit in the end of the "+suffix, over(func(b []byte) { b[len(b)-1] ^= 1 }))...)
		cases = append(cases, f("zeros in the "+suffix, over(func(b []byte) { clear(b) }))...)
	}
	for _, file := range []string{"recovery-point-offset-checkpoint", "log-start-offset-checkpoint", "replication-offset-checkpoint",
		".kafka_cleanshutdown", "rot-0/leader-epoch-checkpoint", "rot-0/*.snapshot"} {
		for _, killed := range []bool{false, true} {
			how := map[bool]string{false: "after a stop", true: "after a kill"}[killed]
			if killed && (file == "replication-offset-checkpoint" || file == ".kafka_cleanshutdown") {
				continue // a kill leaves none, or not yet
			}
			damage := func(name string, change func(b []byte) []byte) {
				cases = append(cases, rotCase{name + " " + file + " " + how, killed, func(t *testing.T, d *rotDir) {
					paths, err := filepath.Glob(d.file(file))
					if err != nil || len(paths) == 0 {
						t.Fatalf("no file %s, %v", file, err)
					}
					for _, path := range paths {
						d.change(path, change)
					}
					d.whole()
				}})
			}
			damage("bit in", func(b []byte) []byte { b[len(b)/2] ^= 0x40; return b })
			damage("zeros in", func(b []byte) []byte { clear(b); return b })
			damage("nothing in", func([]byte) []byte { return nil })
		}
	}
	return cases
}
