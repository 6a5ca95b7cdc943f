package broker

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// propertyLineMax is the longest line of a properties file, in bytes.
const propertyLineMax = 1 << 20

// ReadProperties reads a Kafka properties file: key=value, key:value or key value, one a line, # and ! comments,
// backslash at a line's end to go on. name is the file's name for errors, which wrap ErrConfig. A key given twice keeps
// its last value, as Java does.
func ReadProperties(r io.Reader, name string) (map[string]string, error) {
	values := map[string]string{}
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, propertyLineMax)
	pending, line := "", 0
	for scanner.Scan() {
		line++
		text := strings.TrimLeft(scanner.Text(), " \t\f")
		if pending == "" && (text == "" || text[0] == '#' || text[0] == '!') {
			continue
		}
		text = pending + text
		if trimmed := strings.TrimRight(text, "\\"); (len(text)-len(trimmed))%2 == 1 {
			pending = text[:len(text)-1]
			continue
		}
		pending = ""
		key, value := splitProperty(text)
		if key == "" {
			return nil, fmt.Errorf("%w: %s:%d: %q has no key before the value", ErrConfig, name, line, text)
		}
		values[key] = value
	}
	if pending != "" { // the backslash has no line after it
		if key, value := splitProperty(pending); key != "" {
			values[key] = value
		}
	}
	if err := scanner.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("%w: %s:%d: the line is longer than %d bytes: not a properties file", ErrConfig, name, line+1, propertyLineMax)
	} else if err != nil {
		return nil, fmt.Errorf("%w: %s:%d: %w", ErrConfig, name, line+1, err)
	}
	return values, nil
}

// splitProperty splits a line at the first =, : or blank that no backslash escapes.
func splitProperty(text string) (key, value string) {
	var b strings.Builder
	i := 0
	for ; i < len(text); i++ {
		if text[i] == '\\' && i+1 < len(text) {
			i++
			b.WriteByte(text[i])
			continue
		}
		if strings.IndexByte("=: \t\f", text[i]) >= 0 {
			break
		}
		b.WriteByte(text[i])
	}
	rest := strings.TrimLeft(text[i:], " \t\f")
	if rest != "" && (rest[0] == '=' || rest[0] == ':') {
		rest = strings.TrimLeft(rest[1:], " \t\f")
	}
	return b.String(), unescape(strings.TrimRight(rest, " \t\f"))
}

func unescape(text string) string {
	if !strings.Contains(text, "\\") {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+1 < len(text) {
			i++
			switch text[i] {
			case 't':
				b.WriteByte('\t')
				continue
			case 'n':
				b.WriteByte('\n')
				continue
			case 'r':
				b.WriteByte('\r')
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// unknownKey says that a key is not in the table, and which one may be meant. What becomes of it is for the caller to say: " is ignored",
// or nothing where it is refused.
func (c *Config) unknownKey(name string, ofTopic bool, fate string) string {
	keys, list := c.broker, "weir config keys"
	if ofTopic {
		keys, list = c.topic, "weir config keys --topic"
	}
	best, distance := "", 4
	for i := range keys {
		if d := editDistance(name, keys[i].Name); d < distance {
			best, distance = keys[i].Name, d
		}
	}
	if best != "" {
		return fmt.Sprintf("unknown key %q%s; did you mean %q?", name, fate, best)
	}
	return fmt.Sprintf("unknown key %q%s; `%s` lists the known ones", name, fate, list)
}

// editDistance counts the single-character edits between two words (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		corner := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := corner
			if a[i-1] != b[j-1] {
				cost = min(corner, row[j], row[j-1]) + 1
			}
			corner, row[j] = row[j], cost
		}
	}
	return row[len(b)]
}
