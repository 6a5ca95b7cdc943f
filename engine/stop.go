package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/weirmq/weir/ioqueue"
	"github.com/weirmq/weir/vfs"
)

// close ends one directory.
func (d *logDir) close(ctx context.Context) error {
	d.stopping.Store(true)
	err := d.closeLogs(ctx)
	if err == nil {
		err = d.err()
	}
	if err == nil {
		err = d.checkpoint(true)
	}
	if err == nil {
		err = writeCleanShutdown(d.store.o.FS, d.path, -1)
	}
	for _, l := range d.store.logsOf(d) {
		l.shut()
	}
	d.sched.Close()
	d.closeWhole()
	d.cuts.close()
	if cerr := d.lock.Close(); err == nil {
		err = cerr
	}
	return err
}

// closeLogs flushes the logs, a few at a time. A log that is offline is left as it is.
func (d *logDir) closeLogs(ctx context.Context) error {
	if err := d.flushTogether(ctx); err != nil {
		return err
	}
	work := make(chan *Log)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	for range max(d.store.o.RecoveryThreads, 4) {
		wg.Go(func() {
			for l := range work {
				if err := l.flushForClose(); err != nil {
					mu.Lock()
					if first == nil {
						first = err
					}
					mu.Unlock()
				}
			}
		})
	}
	for _, l := range d.store.logsOf(d) {
		if ctx.Err() != nil {
			break
		}
		work <- l
	}
	close(work)
	wg.Wait()
	if first == nil {
		first = ctx.Err()
	}
	return first
}

// closeWhole gives the handle of the file system back.
func (d *logDir) closeWhole() {
	if d.whole != nil {
		_ = d.whole.Close()
	}
}

// stagedFile is a small file that has been written beside the one that it is to replace. done has to be called, once: with replaced when it has taken
// that one's place durably.
type stagedFile struct {
	path      string
	committed bool
	done      func(replaced bool)
}

// stagedLog is a log on its way through flushTogether. Its adminMu is held.
type stagedLog struct {
	log   *Log
	segs  []*segment
	files []*stagedFile
}

// flushTogether makes durable what many logs have left, with two syncs of the file system for all of them: the first for the records, and for the small
// files beside those that they are to replace, the second for the replacing. Only then does an offset count as durable. Nobody waits for one record,
// so it may take as long as all takes that others have left to the kernel. What cannot be done so is left to flushForClose: a few logs, a partition on
// another file system, one that is being truncated or synced, a file that finds no space. An error has taken the directory offline.
func (d *logDir) flushTogether(ctx context.Context) error {
	least := d.store.o.SyncTogetherMin
	if d.whole == nil || least < 0 {
		return nil
	}
	var logs []*Log
	for _, l := range d.store.logsOf(d) {
		if l.unflushed() {
			logs = append(logs, l)
		}
	}
	if len(logs) < least {
		return nil
	}
	staged := d.stageLogs(ctx, logs)
	streams := make([]*ioqueue.Stream, len(staged))
	for i, s := range staged {
		streams[i] = s.log.stream
	}
	synced := false
	err := d.sched.SyncTogether(streams, func() (err error) {
		// The locks go before the callbacks of the streams come, which want others.
		defer func() {
			synced = err == nil
			releaseStaged(staged, synced)
			staged = nil
		}()
		if err := d.whole.SyncAll(); err != nil {
			return err
		}
		d.commitStaged(staged)
		return d.whole.SyncAll()
	})
	releaseStaged(staged, false) // it was not even tried
	if err != nil && !errors.Is(err, ioqueue.ErrClosed) {
		d.fail(err)
		return fmt.Errorf("%w: %s: %w", ErrOffline, d.path, err)
	}
	return nil
}

// unflushed says that a clean stop has something to make durable. All of it was written by this process, except under `never` (see
// Log.isLazy): what recovery finds in the page cache is fsynced before the log is open, file by file, because its write-back may have failed before
// d.whole was opened.
func (l *Log) unflushed() bool {
	if !l.loaded.Load() || l.failure.Load() != nil || l.stream == nil {
		return false
	}
	v := l.off.load()
	return v.Durable < v.LogEnd || l.stream.UnsyncedBytes() > 0 || l.counters.appendedBytes.Load() > 0
}

// stageLogs stages the files of the logs, a few at a time. It ends early with ctx.
func (d *logDir) stageLogs(ctx context.Context, logs []*Log) (staged []*stagedLog) {
	work := make(chan *Log)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range max(d.store.o.RecoveryThreads, 4) {
		wg.Go(func() {
			for l := range work {
				if s := l.stage(); s != nil {
					mu.Lock()
					staged = append(staged, s)
					mu.Unlock()
				}
			}
		})
	}
	for _, l := range logs {
		if ctx.Err() != nil {
			break
		}
		work <- l
	}
	close(work)
	wg.Wait()
	return staged
}

// stage writes the small files that a clean stop leaves of a log, each beside the one that it is to replace. It gives nil for a log that has to go the
// ordinary way.
func (l *Log) stage() *stagedLog {
	if !l.adminMu.TryLock() {
		return nil
	}
	s := &stagedLog{log: l, segs: l.segments()}
	active := l.active()
	held := false
	if l.unflushed() && active != nil {
		held, _ = l.dir.whole.Holds(active.path())
	}
	if !held || !s.write() {
		s.release(false)
		return nil
	}
	return s
}

// write stages the files; false if one cannot be written.
func (s *stagedLog) write() bool {
	l := s.log
	l.mu.Lock()
	snapshot := l.mu.producers.prepareSnapshot(l.off.load().LogEnd)
	l.mu.Unlock()
	for _, stage := range []func() (*stagedFile, error){
		l.part.stageMetadata, l.epochs.stage,
		func() (*stagedFile, error) { return l.mu.producers.stageSnapshot(snapshot) },
	} {
		f, err := stage()
		if err != nil {
			return false
		}
		if f != nil {
			s.files = append(s.files, f)
		}
	}
	return true
}

// commitStaged puts the staged files in their places. One that fails stays as it was, for flushForClose to write again.
func (d *logDir) commitStaged(staged []*stagedLog) {
	for _, s := range staged {
		for _, f := range s.files {
			if err := vfs.CommitFile(d.store.o.FS, f.path); err != nil {
				d.store.log.Warn("file not replaced, will be tried again", "path", f.path, "error", err)
				continue
			}
			f.committed = true
		}
	}
}

func releaseStaged(staged []*stagedLog, synced bool) {
	for _, s := range staged {
		s.release(synced)
	}
}

// release lets others at the log and its files again. synced: all names in its directory are durable.
func (s *stagedLog) release(synced bool) {
	for _, f := range s.files {
		f.done(synced && f.committed)
	}
	if synced {
		for _, seg := range s.segs {
			seg.file.unnamed.Store(false)
		}
		s.log.part.unnamed.Store(false)
	}
	s.log.adminMu.Unlock()
}

// flushForClose makes everything durable that a clean start relies on.
func (l *Log) flushForClose() error {
	l.adminMu.Lock()
	defer l.adminMu.Unlock()
	if !l.loaded.Load() || l.failure.Load() != nil {
		return nil
	}
	l.dropSpare()
	v := l.off.load()
	if v.Durable < v.LogEnd || l.stream.UnsyncedBytes() > 0 {
		if err := l.stream.SyncNow(); err != nil && !errors.Is(err, ioqueue.ErrClosed) {
			return l.ioError(err)
		}
	}
	if err := l.part.writeMetadata(); err != nil && l.mu.onDisk {
		return l.ioError(err)
	}
	l.mu.Lock()
	seg := l.active()
	if seg != nil && !seg.sealed.Load() {
		seg.noteTime()
		seg.flushIndexes()
	}
	changed := l.counters.appendedBytes.Load() > 0
	snapshot := l.mu.producers.prepareSnapshot(l.off.load().LogEnd)
	l.mu.Unlock()
	if changed && !l.mu.producers.isStaged(snapshot) {
		if err := l.mu.producers.writeSnapshot(snapshot); err != nil {
			l.store.log.Warn("producer snapshot not written", "partition", l.tp.String(), "error", err)
		}
	}
	return l.settle()
}
