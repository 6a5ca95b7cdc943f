package netpoll

import (
	"errors"
	"fmt"
	"time"
)

// Reasons for the end of a connection, as OnClose gets them (wrapped with details, so use errors.Is).
var (
	// ErrServerStopped: the server was stopped.
	ErrServerStopped = errors.New("server stopped")
	// ErrIdle: no byte moved for Options.IdleTimeout.
	ErrIdle = errors.New("connection idle too long")
	// ErrFrameTimeout: a frame took longer than Options.FrameTimeout to arrive.
	ErrFrameTimeout = errors.New("frame took too long to arrive")
	// ErrFileTruncated: a FileRange of a response reached beyond the end of its file.
	ErrFileTruncated = errors.New("file is shorter than the range to send")
)

// FrameSizeError closes a connection whose peer claims a frame length that is not acceptable.
type FrameSizeError struct {
	Got int32 // the length as sent
	Max int   // the largest accepted length; the smallest is 1
}

// Error says what was claimed and what is accepted.
func (e *FrameSizeError) Error() string {
	return fmt.Sprintf("frame length %d: want 1 to %d bytes", e.Got, e.Max)
}

func frameTimeoutError(have, want int, after time.Duration) error {
	return fmt.Errorf("%w: %d of %d bytes after %v", ErrFrameTimeout, have, want, after)
}
