package broker

import (
	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/engine"
)

// Record bytes that are not in the page cache must not be sent by a loop: sendfile would hold up every connection of the loop
// for as long as the disk takes. A fetch that is behind asks the kernel (cachestat, Linux 6.5) whether its spans are cached; if
// not, a worker has them read before the response is handed over. On an older kernel everything counts as cached.

// warmStrideBytes is the distance at which warm touches a span that the kernel was asked to read ahead: below the
// smallest usual readahead window, so that no window is left out.
const warmStrideBytes = 64 << 10

// cold reports whether any byte of the span would have to be read from the disk.
func cold(span engine.Span) bool {
	fd, ok := span.File.Fd()
	if !ok {
		return false // it was copied already
	}
	var stat unix.Cachestat_t
	if err := unix.Cachestat(uint(fd), &unix.CachestatRange{Off: uint64(span.Pos), Len: uint64(span.Len)}, &stat, 0); err != nil {
		return false
	}
	page := int64(unix.Getpagesize())
	pages := (span.Pos+span.Len+page-1)/page - span.Pos/page
	return int64(stat.Cache) < pages
}

// warm has the kernel read the span into the page cache and waits for it. Errors show again, and are told, when the bytes
// are sent.
func warm(span engine.Span) {
	fd, ok := span.File.Fd()
	if !ok {
		return
	}
	_ = unix.Fadvise(fd, span.Pos, span.Len, unix.FADV_WILLNEED) // a hint: the reads below do without
	var b [1]byte
	for at := span.Pos; at < span.Pos+span.Len; at += warmStrideBytes {
		if _, err := span.File.ReadAt(b[:], at); err != nil {
			return
		}
	}
}

// sendCold is the frame's way out when some of its spans are cold: by a worker.
func (r *request) sendCold(f *outFrame) {
	j := job{r: r, h: handler{handle: func(r *request, _ []byte) error {
		for _, span := range f.spans {
			if cold(span) {
				warm(span)
			}
		}
		r.send(f)
		return nil
	}}}
	if err := r.b.readers.submit(&connState{}, j); err != nil {
		r.send(f) // the broker stops: what is left is sent as it is
	}
}

// anyCold reports whether a worker has to read for the frame.
func (f *outFrame) anyCold() bool {
	for _, span := range f.spans {
		if cold(span) {
			return true
		}
	}
	return false
}
