package broker

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cluster"
	"github.com/weirmq/weir/protocol"
)

// handleAlterConfigs serves AlterConfigs (key 33, versions 0-2): replaces all dynamic values of each resource.
func (b *Broker) handleAlterConfigs(r *request, req *kmsg.AlterConfigsRequest) {
	changes := make([]alterRequest, len(req.Resources))
	for i := range req.Resources {
		asked := &req.Resources[i]
		changes[i].Resource, changes[i].Replace = resourceOf(asked.ResourceType, asked.ResourceName), true
		for _, config := range asked.Configs {
			changes[i].add(config.Name, cluster.AlterSet, config.Value)
		}
	}
	resp := req.ResponseKind().(*kmsg.AlterConfigsResponse)
	for i, outcome := range b.alterConfigs(r, changes, req.ValidateOnly) {
		row := kmsg.NewAlterConfigsResponseResource()
		row.ResourceType, row.ResourceName = req.Resources[i].ResourceType, req.Resources[i].ResourceName
		row.ErrorCode, row.ErrorMessage = outcome.code, outcome.message
		resp.Resources = append(resp.Resources, row)
	}
	r.Reply(resp)
}

// handleIncrementalAlterConfigs serves IncrementalAlterConfigs (key 44, versions 0-1; KIP-339): sets, deletes, appends to and
// subtracts from single keys.
func (b *Broker) handleIncrementalAlterConfigs(r *request, req *kmsg.IncrementalAlterConfigsRequest) {
	changes := make([]alterRequest, len(req.Resources))
	for i := range req.Resources {
		asked := &req.Resources[i]
		changes[i].Resource = resourceOf(asked.ResourceType, asked.ResourceName)
		for _, config := range asked.Configs {
			changes[i].add(config.Name, cluster.AlterOp(config.Op), config.Value)
		}
	}
	resp := req.ResponseKind().(*kmsg.IncrementalAlterConfigsResponse)
	for i, outcome := range b.alterConfigs(r, changes, req.ValidateOnly) {
		row := kmsg.NewIncrementalAlterConfigsResponseResource()
		row.ResourceType, row.ResourceName = req.Resources[i].ResourceType, req.Resources[i].ResourceName
		row.ErrorCode, row.ErrorMessage = outcome.code, outcome.message
		resp.Resources = append(resp.Resources, row)
	}
	r.Reply(resp)
}

func resourceOf(kind kmsg.ConfigResourceType, name string) cluster.Resource {
	return cluster.Resource{Type: cluster.ResourceType(kind), Name: name}
}

// alterRequest is what is asked for one resource.
type alterRequest struct {
	cluster.ConfigChange
	nulls []string // keys without a value where one is needed
}

func (a *alterRequest) add(key string, op cluster.AlterOp, value *string) {
	alteration := cluster.Alteration{Key: key, Op: op}
	if value != nil {
		alteration.Value = *value
	} else if op != cluster.AlterDelete {
		a.nulls = append(a.nulls, key)
	}
	a.Alterations = append(a.Alterations, alteration)
}

// alterOutcome is the answer for one resource.
type alterOutcome struct {
	code    int16
	message *string
}

func outcomeOf(code protocol.ErrorCode, message string) alterOutcome {
	if code == protocol.ErrNone {
		return alterOutcome{}
	}
	return alterOutcome{int16(code), &message}
}

// alterConfigs proposes the changes of those resources that exist here and are named once, and returns an outcome for each.
func (b *Broker) alterConfigs(r *request, changes []alterRequest, validateOnly bool) []alterOutcome {
	outcomes := make([]alterOutcome, len(changes))
	var proposed []cluster.ConfigChange
	var places []int
	times := map[cluster.Resource]int{}
	for i := range changes {
		times[changes[i].Resource]++
	}
	for i := range changes {
		code, message := b.alterable(changes[i].Resource)
		if times[changes[i].Resource] > 1 {
			code, message = protocol.ErrInvalidRequest, "the resource is named more than once in the request"
		}
		if nulls := changes[i].nulls; code == protocol.ErrNone && len(nulls) > 0 {
			code, message = protocol.ErrInvalidRequest, fmt.Sprintf("null is no value, for %s: delete a key to unset it", strings.Join(nulls, ", "))
		}
		if code != protocol.ErrNone {
			outcomes[i] = outcomeOf(code, message)
			continue
		}
		proposed, places = append(proposed, changes[i].ConfigChange), append(places, i)
	}
	if len(proposed) == 0 {
		return outcomes
	}
	results, err := b.node.AlterConfigs(r.context(), proposed, validateOnly)
	for k, i := range places {
		failure := err
		if err == nil {
			failure = results[k]
		}
		if failure != nil {
			outcomes[i] = outcomeOf(errorCode(failure), failure.Error())
		}
	}
	return outcomes
}

// alterable says whether a resource can be altered at this broker.
func (b *Broker) alterable(res cluster.Resource) (protocol.ErrorCode, string) {
	switch res.Type {
	case cluster.ResourceTopic:
		return protocol.ErrNone, "" // whether it exists is decided in log order
	case cluster.ResourceBroker:
		if own := strconv.FormatInt(b.config.Int("node.id"), 10); res.Name != "" && res.Name != own {
			return protocol.ErrInvalidRequest, fmt.Sprintf("broker %q: this is broker %s", res.Name, own)
		}
		return protocol.ErrNone, ""
	}
	return protocol.ErrInvalidRequest, fmt.Sprintf("resource type %d has no configuration here; topics are 2, brokers are 4", res.Type)
}
