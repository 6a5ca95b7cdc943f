package broker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sys/unix"
)

// TestColdFetch fetches records that were dropped from the page cache, where the file system does that on request.
func TestColdFetch(t *testing.T) {
	tb := startBroker(t, map[string]string{"fsync.policy": "commit"})
	tb.createTopic("t", 1, nil)
	c := tb.dial()
	var want []string
	for i := range 8 {
		want = append(want, strings.Repeat(string(rune('a'+i)), 300_000))
		c.mustProduce("t", batchOf(want[i]))
	}
	file, err := os.Open(filepath.Join(tb.dir, "t-0", "00000000000000000000.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	req := fetchRequest("t", 0, 0)
	req.MaxBytes, req.Topics[0].Partitions[0].PartitionMaxBytes = 1<<20, 1<<20 // not to the end: a reader that is behind
	p := c.request(req, fetchVersion).(*kmsg.FetchResponse).Topics[0].Partitions[0]
	if got := valuesOf(t, p.RecordBatches); got != strings.Join(want[:3], " ") {
		t.Errorf("got %d bytes of values, want the first three batches", len(got))
	}
}
