package broker

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// KeyType is the type of a configuration value, with the codes that DescribeConfigs reports (KIP-569).
type KeyType int8

// The types of configuration values, numbered as in the Kafka protocol.
const (
	TypeBoolean KeyType = 1
	TypeString  KeyType = 2
	TypeInt     KeyType = 3
	TypeShort   KeyType = 4
	TypeLong    KeyType = 5
	TypeDouble  KeyType = 6
	TypeList    KeyType = 7
)

// String names the type as Kafka's documentation does.
func (t KeyType) String() string {
	switch t {
	case TypeBoolean:
		return "boolean"
	case TypeString:
		return "string"
	case TypeInt:
		return "int"
	case TypeShort:
		return "short"
	case TypeLong:
		return "long"
	case TypeDouble:
		return "double"
	case TypeList:
		return "list"
	}
	return "unknown"
}

// Key describes one configuration key: what it is called, what it may hold and what it holds when nobody sets it.
type Key struct {
	// Name is Kafka's name of the key, or weir's own where Kafka has no such thing.
	Name string
	// Type decides how the value is parsed.
	Type KeyType
	// Default is the value in force when the key is not set, as text. "" may mean "none" (see Doc).
	Default string
	// Min and Max bound numbers, both inclusive.
	Min, Max float64
	// Enum lists the values allowed for strings and list elements; empty means any.
	Enum []string
	// Dynamic keys may be changed by AlterConfigs on a running broker; the others need a restart.
	Dynamic bool
	// Broker names the broker key that supplies the default of a topic key; "" for broker keys and for topic keys without one.
	Broker string
	// Doc is one sentence for people: meaning and unit.
	Doc string
}

// anyNumber bounds a number by nothing but its type.
const anyNumber = math.MaxFloat64

// Check parses the value as the key's type and holds it against the key's range.
// The error names the key, the value and what would be right.
func (k *Key) Check(value string) error {
	switch k.Type {
	case TypeBoolean:
		if v := strings.ToLower(value); v != "true" && v != "false" {
			return k.wrong(value, "true or false")
		}
	case TypeInt, TypeShort, TypeLong:
		n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		if err != nil || !k.typeHolds(n) || float64(n) < k.Min || float64(n) > k.Max {
			return k.wrong(value, k.rangeText())
		}
	case TypeDouble:
		f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil || math.IsNaN(f) || f < k.Min || f > k.Max {
			return k.wrong(value, k.rangeText())
		}
	case TypeString:
		if len(k.Enum) > 0 && !slices.Contains(k.Enum, value) {
			return k.wrong(value, "one of "+k.choices())
		}
	case TypeList:
		for _, item := range SplitList(value) {
			if len(k.Enum) > 0 && !slices.Contains(k.Enum, item) {
				return k.wrong(value, "a list of "+strings.Join(k.Enum, ", "))
			}
		}
	}
	return nil
}

func (k *Key) typeHolds(n int64) bool {
	switch k.Type {
	case TypeInt:
		return n >= math.MinInt32 && n <= math.MaxInt32
	case TypeShort:
		return n >= math.MinInt16 && n <= math.MaxInt16
	}
	return true
}

func (k *Key) rangeText() string {
	lowest, highest := k.Min, k.Max
	switch k.Type {
	case TypeInt:
		highest = min(highest, math.MaxInt32)
	case TypeShort:
		highest = min(highest, math.MaxInt16)
	}
	article := "a whole number"
	if k.Type == TypeDouble {
		article = "a number"
	}
	text := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	if highest >= math.MaxInt64 {
		if lowest <= -anyNumber {
			return article
		}
		return article + " of at least " + text(lowest)
	}
	return article + " from " + text(lowest) + " to " + text(highest)
}

// Range says in words which values the key takes.
func (k *Key) Range() string {
	switch {
	case k.Type == TypeBoolean:
		return "true or false"
	case len(k.Enum) > 0:
		return k.choices()
	case k.Type == TypeString || k.Type == TypeList:
		return "text"
	}
	return k.rangeText()
}

// choices lists the allowed values, with a word for the empty one.
func (k *Key) choices() string {
	names := slices.Clone(k.Enum)
	if at := slices.Index(names, ""); at >= 0 {
		names = append(slices.Delete(names, at, at+1), "or empty")
	}
	return strings.Join(names, ", ")
}

func (k *Key) wrong(value, right string) error {
	return fmt.Errorf("%w: %s=%q: must be %s", ErrConfig, k.Name, value, right)
}

// SplitList splits a list value at its commas, trims the items and drops empty ones.
func SplitList(value string) []string {
	var items []string
	for _, item := range strings.Split(value, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}
