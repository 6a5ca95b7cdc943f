package engine

import "fmt"

// CorruptFileError says that a file on disk holds bytes that this package cannot have written whole: where, what was
// found and what had to be there. It matches ErrCorrupt with errors.Is. Files that are derived data (indexes, producer
// snapshots) are rebuilt by the caller; for all others the caller must refuse to go on, never take the file for empty.
type CorruptFileError struct {
	// Path is the file as it was opened.
	Path string `json:"path"`
	// Pos is the byte position of the first fault. For text files it is the position of the line's first byte.
	Pos int64 `json:"position"`
	// What names the field or check that failed, for example "crc".
	What string `json:"what"`
	// Got and Want are the found and the expected value, printable; both empty when What says it all.
	Got  string `json:"got"`
	Want string `json:"want"`
}

// Error gives path, position, field and both values on one line.
func (e *CorruptFileError) Error() string {
	if e.Got == "" && e.Want == "" {
		return fmt.Sprintf("%s: corrupt at byte %d: %s", e.Path, e.Pos, e.What)
	}
	return fmt.Sprintf("%s: corrupt at byte %d: %s: got %s, want %s", e.Path, e.Pos, e.What, e.Got, e.Want)
}

// Unwrap makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptFileError) Unwrap() error { return ErrCorrupt }

// corruptFile builds a CorruptFileError; got and want are printed with %v.
func corruptFile(path string, pos int64, what string, got, want any) error {
	return &CorruptFileError{Path: path, Pos: pos, What: what, Got: fmt.Sprint(got), Want: fmt.Sprint(want)}
}
