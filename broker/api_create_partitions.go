package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cluster"
)

// CreatePartitions (key 37), versions 0-3.
//
// Grows topics to a total count, each with its own code and message; a count that is not above the present one is
// INVALID_PARTITIONS. A manual assignment must have one list for each added partition. With validate only nothing changes and the
// answers are the same. A topic that is in the request more than once is INVALID_REQUEST, in one row. The partitions are durable,
// and can be written, when the answer leaves. Throttling by THROTTLING_QUOTA_EXCEEDED (v3, KIP-599) is not there.

func (b *Broker) handleCreatePartitions(r *request, req *kmsg.CreatePartitionsRequest) {
	resp := kmsg.NewPtrCreatePartitionsResponse()
	names := make([]string, len(req.Topics))
	for i := range req.Topics {
		names[i] = req.Topics[i].Topic
	}
	twice, told := repeated(names), map[string]bool{}
	var topics []cluster.NewPartitions
	var places []int // of the topics in resp
	for i := range req.Topics {
		asked := &req.Topics[i]
		if told[asked.Topic] {
			continue
		}
		row := kmsg.NewCreatePartitionsResponseTopic()
		row.Topic = asked.Topic
		if twice[asked.Topic] {
			told[asked.Topic] = true
			row.ErrorCode, row.ErrorMessage = invalidRequest("the topic is named more than once in the request")
		} else {
			topics, places = append(topics, newPartitions(asked)), append(places, len(resp.Topics))
		}
		resp.Topics = append(resp.Topics, row)
	}
	ctx, cancel := r.changeContext(req.TimeoutMillis)
	defer cancel()
	results, err := b.node.CreatePartitions(ctx, topics, req.ValidateOnly)
	for i, at := range places {
		row := &resp.Topics[at]
		failure := err
		if err == nil {
			failure = results[i].Err
		}
		row.ErrorCode, row.ErrorMessage = b.refusal(failure)
	}
	r.Reply(resp)
}

func newPartitions(asked *kmsg.CreatePartitionsRequestTopic) cluster.NewPartitions {
	p := cluster.NewPartitions{Name: asked.Topic, Total: asked.Count}
	for _, a := range asked.Assignment {
		p.Assignments = append(p.Assignments, a.Replicas)
	}
	return p
}
