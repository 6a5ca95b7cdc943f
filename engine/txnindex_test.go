package engine

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirmq/weir/vfs"
)

const testTxnIndex = "00000000000000000000.txnindex"

func TestTxnIndexGolden(t *testing.T) {
	got := appendTxnIndexEntry(nil, AbortedTxn{ProducerID: 1, FirstOffset: 2, LastOffset: 3, LastStableOffset: 4})
	want := []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4}
	if !bytes.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

// TestTxnIndex compares appends, truncations, searches and crashes with a list.
func TestTxnIndex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fs := vfs.NewMem(vfs.MemOptions{})
		open := func() *txnIndex {
			x, err := openTxnIndex(fs, testTxnIndex)
			if err != nil {
				t.Fatal(err)
			}
			return x
		}
		x := open()
		var model, synced []AbortedTxn
		next := int64(0)
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				first := rapid.Int64Range(max(0, next-5), next+3).Draw(t, "first")
				last := max(first, next) + rapid.Int64Range(0, 3).Draw(t, "length")
				a := AbortedTxn{ProducerID: 5, FirstOffset: first, LastOffset: last, LastStableOffset: last + 1 - rapid.Int64Range(0, 1).Draw(t, "lso")}
				if err := x.append(a); err != nil {
					t.Fatal(err)
				}
				model = append(slices.Clone(model), a)
				next = last + 1
			},
			"truncate": func(t *rapid.T) {
				to := rapid.Int64Range(0, next).Draw(t, "to")
				if err := x.truncateTo(to); err != nil {
					t.Fatal(err)
				}
				n := len(model)
				model = slices.DeleteFunc(slices.Clone(model), func(a AbortedTxn) bool { return a.LastOffset >= to })
				if len(model) < n {
					next = to
					if err := x.sync(); err != nil { // a truncation is made durable by the log
						t.Fatal(err)
					}
					synced = model
				}
			},
			"sync": func(t *rapid.T) {
				if err := x.sync(); err != nil {
					t.Fatal(err)
				}
				synced = model
			},
			"reopen": func(t *rapid.T) {
				if err := x.close(); err != nil {
					t.Fatal(err)
				}
				x = open()
				x.durable = false // as far as this test knows
			},
			"collect": func(t *rapid.T) {
				from := rapid.Int64Range(0, next+2).Draw(t, "from")
				to := from + rapid.Int64Range(0, 9).Draw(t, "n")
				got, complete := x.collect(nil, from, to)
				var want []AbortedTxn
				wantComplete := false
				for _, a := range model {
					if a.LastOffset >= from && a.FirstOffset < to {
						want = append(want, a)
					}
					if wantComplete = a.LastStableOffset >= to; wantComplete {
						break
					}
				}
				if !slices.Equal(got, want) || complete != wantComplete {
					t.Fatalf("collect [%d, %d) of %v: got %v, %v, want %v, %v", from, to, model, got, complete, want, wantComplete)
				}
			},
			"power cut": func(t *rapid.T) {
				clone := fs.CrashClone(rapid.Uint64().Draw(t, "seed"), vfs.CrashLoseUnsynced)
				y, err := openTxnIndex(clone, testTxnIndex)
				if err != nil || !slices.Equal(y.load(), synced) {
					t.Fatalf("after a power cut: got %v, %v, want %v", y.load(), err, synced)
				}
			},
			"": func(t *rapid.T) {
				if !slices.Equal(x.load(), model) {
					t.Fatalf("got %v, want %v", x.load(), model)
				}
			},
		})
	})
}

func TestTxnIndexRefusesDisorder(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	x := newTxnIndex(fs, testTxnIndex)
	if err := x.append(AbortedTxn{ProducerID: 1, FirstOffset: 1, LastOffset: 5}); err != nil {
		t.Fatal(err)
	}
	if err := x.append(AbortedTxn{ProducerID: 1, FirstOffset: 1, LastOffset: 5}); err == nil {
		t.Fatal("an entry out of order was taken")
	}
	if err := x.reset(); err != nil || x.count() != 0 {
		t.Fatalf("reset: %v, %d entries left", err, x.count())
	}
	if _, err := fs.Stat(testTxnIndex); err == nil {
		t.Fatal("reset left the file")
	}
}

func TestTxnIndexCorruption(t *testing.T) {
	good := appendTxnIndexEntry(nil, AbortedTxn{ProducerID: 1, FirstOffset: 2, LastOffset: 3, LastStableOffset: 4})
	for name, bad := range map[string][]byte{
		"torn":       good[:20],
		"version":    append([]byte{0, 1}, good[2:]...),
		"twice":      append(bytes.Clone(good), good...),
		"first last": appendTxnIndexEntry(nil, AbortedTxn{FirstOffset: 4, LastOffset: 3}),
		"producer":   appendTxnIndexEntry(nil, AbortedTxn{ProducerID: -2}),
	} {
		fs := vfs.NewMem(vfs.MemOptions{})
		if err := vfs.WriteFileAtomic(fs, testTxnIndex, bad); err != nil {
			t.Fatal(err)
		}
		if _, err := openTxnIndex(fs, testTxnIndex); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrCorrupt", name, err)
		}
	}
}

// TestTxnIndexReadersBesideWriter is for the race detector.
func TestTxnIndexReadersBesideWriter(t *testing.T) {
	x := newTxnIndex(vfs.NewMem(vfs.MemOptions{}), testTxnIndex)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			select {
			case <-stop:
				return
			default:
				got, _ := x.collect(nil, 0, 1<<40)
				for i, a := range got {
					if a.LastOffset != int64(i) {
						t.Errorf("entry %d: got %+v", i, a)
						return
					}
				}
			}
		}
	}()
	for i := range int64(500) {
		if err := x.append(AbortedTxn{FirstOffset: i, LastOffset: i}); err != nil {
			t.Error(err)
		}
		if i == 300 {
			held := x.load()
			was := slices.Clone(held)
			if err := x.truncateTo(200); err != nil {
				t.Error(err)
			}
			for k := int64(200); k <= 300; k++ {
				if err := x.append(AbortedTxn{ProducerID: 1, FirstOffset: k, LastOffset: k}); err != nil {
					t.Error(err)
				}
			}
			if !slices.Equal(held, was) {
				t.Error("entries changed under a reader that holds them")
			}
		}
	}
	close(stop)
	wg.Wait()
}
