package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// AlterOp says what to do with a configuration key, numbered as in the Kafka protocol.
type AlterOp int8

// The operations of IncrementalAlterConfigs.
const (
	AlterSet      AlterOp = 0
	AlterDelete   AlterOp = 1
	AlterAppend   AlterOp = 2
	AlterSubtract AlterOp = 3
)

// Alteration changes one key of a resource's configuration. Value is ignored by AlterDelete.
type Alteration struct {
	Key   string
	Op    AlterOp
	Value string
}

// ConfigChange changes the dynamic configuration of one resource, all of it or nothing.
type ConfigChange struct {
	Resource Resource
	// Replace first drops every value that is set (AlterConfigs); without it the others stay (IncrementalAlterConfigs).
	Replace     bool
	Alterations []Alteration
}

// AlterConfigs changes dynamic configuration and returns one error, or nil, for each change, in order. The error beside them is of
// the proposal as a whole: one of those of Propose.
func (n *Node) AlterConfigs(ctx context.Context, changes []ConfigChange, validateOnly bool) ([]error, error) {
	results, err := n.decide(ctx, len(changes), validateOnly, func(i int) (Record, error) { return n.configsRecord(&changes[i]) })
	if err != nil {
		return nil, err
	}
	errs := make([]error, len(results))
	for i := range results {
		errs[i] = results[i].Err
	}
	return errs, nil
}

// configsRecord works out the values that the resource would have, from those it has now, and has them checked.
func (n *Node) configsRecord(c *ConfigChange) (Record, error) {
	if c.Resource.Type == ResourceBroker && c.Resource.Name != "" && c.Resource.Name != strconv.Itoa(int(n.opts.NodeID)) {
		return nil, fmt.Errorf("%w: %q, the only broker is %d", ErrUnknownBroker, c.Resource.Name, n.opts.NodeID)
	}
	if c.Resource.Type != ResourceBroker && c.Resource.Type != ResourceTopic {
		return nil, fmt.Errorf("%w: resource type %d has no configuration", ErrInvalidRequest, c.Resource.Type)
	}
	old, ok := n.Image().Configs(c.Resource)
	if !ok {
		return nil, fmt.Errorf("%w: %q", ErrUnknownTopic, c.Resource.Name)
	}
	values := map[string]string{}
	if !c.Replace {
		maps.Copy(values, old.Values)
	}
	seen := map[string]bool{}
	for _, a := range c.Alterations {
		if seen[a.Key] {
			return nil, fmt.Errorf("%w: key %q twice in one change", ErrInvalidRequest, a.Key)
		}
		seen[a.Key] = true
		if err := n.alter(c.Resource.Type, values, a); err != nil {
			return nil, err
		}
	}
	if err := n.checkConfigs(c.Resource, values); err != nil {
		return nil, err
	}
	return &ConfigsRecord{Resource: c.Resource, Version: old.Version, Configs: values}, nil
}

// alter does one alteration to values.
func (n *Node) alter(t ResourceType, values map[string]string, a Alteration) error {
	switch a.Op {
	case AlterSet:
		values[a.Key] = a.Value
		return nil
	case AlterDelete:
		delete(values, a.Key)
		return nil
	case AlterAppend, AlterSubtract:
	default:
		return fmt.Errorf("%w: key %q: unknown operation %d", ErrInvalidRequest, a.Key, a.Op)
	}
	isList, unset := n.opts.ListConfig(t, a.Key)
	if !isList {
		return fmt.Errorf("%w: key %q is no list: append and subtract do not apply", ErrInvalidConfig, a.Key)
	}
	have, ok := values[a.Key]
	if !ok {
		have = unset
	}
	items := splitList(have)
	for _, item := range splitList(a.Value) {
		at := slices.Index(items, item)
		switch {
		case a.Op == AlterAppend && at < 0:
			items = append(items, item)
		case a.Op == AlterSubtract && at >= 0:
			items = slices.Delete(items, at, at+1)
		}
	}
	values[a.Key] = strings.Join(items, ",")
	return nil
}

// splitList splits a comma-separated list; empty items are dropped.
func splitList(s string) []string {
	var items []string
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// checkConfigs asks the owner of the configuration keys.
func (n *Node) checkConfigs(r Resource, values map[string]string) error {
	if err := checkConfigs(values); err != nil {
		return err
	}
	if err := n.opts.CheckConfigs(r, values); err != nil {
		if errors.Is(err, ErrInvalidConfig) {
			return err
		}
		return fmt.Errorf("%w: %w", ErrInvalidConfig, err)
	}
	return nil
}
