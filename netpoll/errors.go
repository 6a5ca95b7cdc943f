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

	errClosedByHandler = errors.New("closed by the server")
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

// frameTimeoutError tells have of frame bytes, prefix included; frame is 0 if the prefix is not whole.
func frameTimeoutError(have, frame int, after time.Duration) error {
	if frame == 0 {
		return fmt.Errorf("%w: %d of %d bytes of its length after %v", ErrFrameTimeout, have, prefixBytes, after)
	}
	return fmt.Errorf("%w: %d of %d bytes after %v", ErrFrameTimeout, have-prefixBytes, frame-prefixBytes, after)
}

func idleError(queued int64, after time.Duration) error {
	if queued > 0 {
		return fmt.Errorf("%w: the peer took none of %d response bytes for %v", ErrIdle, queued, after)
	}
	return fmt.Errorf("%w: %v", ErrIdle, after)
}

func truncatedError(f FileRange) error {
	return fmt.Errorf("%w: descriptor %d ends before position %d, %d bytes were left to send", ErrFileTruncated, f.Fd, f.Pos, f.Len)
}

func sockError(op string, err error) error { return fmt.Errorf("%s: %w", op, err) }
