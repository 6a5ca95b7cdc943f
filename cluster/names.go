package cluster

import (
	"fmt"
	"strings"
)

// CheckTopicName reports whether a topic may have this name; the error wraps ErrInvalidTopicName and quotes the name, so that no
// byte of it can forge a log line. A legal name is safe as part of a path: no separator, never "." or "..".
func CheckTopicName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: it is empty", ErrInvalidTopicName)
	case len(name) > topicNameMax:
		return fmt.Errorf("%w: it has %d characters, at most %d are allowed", ErrInvalidTopicName, len(name), topicNameMax)
	case name == "." || name == "..":
		return fmt.Errorf("%w: %q is not allowed", ErrInvalidTopicName, name)
	case name == LogTopic:
		return fmt.Errorf("%w: %q is the broker's own", ErrInvalidTopicName, name)
	}
	for i := 0; i < len(name); i++ {
		if !legalInName(name[i]) {
			return fmt.Errorf("%w: %q: only ASCII letters and digits, '.', '_' and '-' are allowed", ErrInvalidTopicName, name)
		}
	}
	return nil
}

func legalInName(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
}

// similarName returns the key under which names that differ only in '.' and '_' meet, and whether the name holds one of them:
// two such topics would have the same metric names, which Kafka forbids.
func similarName(name string) (string, bool) {
	if !strings.ContainsAny(name, "._") {
		return "", false
	}
	return strings.ReplaceAll(name, ".", "_"), true
}
