package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cluster"
	"github.com/weirmq/weir/protocol"
)

// DeleteTopics (key 20), versions 1-6.
//
// Deletes topics by name, and from v6 on by id (KIP-516), each with its own code. With delete.topic.enable=false the code is
// TOPIC_DELETION_DISABLED, before v3 INVALID_REQUEST. A topic that is in the request more than once, by name or id, and a row that
// has both or neither, are INVALID_REQUEST. When the answer leaves, the deletion is durable and nobody finds the topic any more;
// its files go in the background.

func (b *Broker) handleDeleteTopics(r *request, req *kmsg.DeleteTopicsRequest) {
	resp := kmsg.NewPtrDeleteTopicsResponse()
	asked := req.Topics
	if r.version < 6 {
		asked = make([]kmsg.DeleteTopicsRequestTopic, len(req.TopicNames))
		for i := range req.TopicNames {
			asked[i].Topic = &req.TopicNames[i]
		}
	}
	image := b.node.Image()
	ids := make([]cluster.TopicID, 0, len(asked))
	for i := range asked {
		if id := deleteTarget(image, &asked[i]); id != (cluster.TopicID{}) {
			ids = append(ids, id)
		}
	}
	twice := repeated(ids)
	var names []string
	var byID []cluster.TopicID
	var namePlaces, idPlaces []int
	for i := range asked {
		row := kmsg.NewDeleteTopicsResponseTopic()
		row.Topic, row.TopicID = asked[i].Topic, asked[i].TopicID
		switch hasName, hasID := asked[i].Topic != nil, asked[i].TopicID != [16]byte{}; {
		case hasName == hasID:
			row.ErrorCode, row.ErrorMessage = invalidRequest("a topic is named either by its name or by its id")
		case !b.config.Bool("delete.topic.enable"):
			row.ErrorCode, row.ErrorMessage = deletionDisabled(r.version)
		case twice[deleteTarget(image, &asked[i])]:
			row.ErrorCode, row.ErrorMessage = invalidRequest("the topic is named more than once in the request")
		case hasName:
			names, namePlaces = append(names, *asked[i].Topic), append(namePlaces, i)
		default:
			byID, idPlaces = append(byID, asked[i].TopicID), append(idPlaces, i)
		}
		resp.Topics = append(resp.Topics, row)
	}
	places := append(namePlaces, idPlaces...)
	r.parkChange(changeTimeout(req.TimeoutMillis), func(done func([]cluster.TopicResult, error)) { b.node.SubmitRemovals(names, byID, done) },
		func(results []cluster.TopicResult, err error) {
			for i, at := range places {
				row := &resp.Topics[at]
				failure := err
				if err == nil {
					failure = results[i].Err
				}
				if row.ErrorCode, row.ErrorMessage = b.refusal(failure); failure == nil {
					row.Topic, row.TopicID = &results[i].Topic.Name, results[i].Topic.ID
				}
			}
			r.Reply(resp)
		})
}

// deleteTarget is the id of the topic that a row means; zero when there is none.
func deleteTarget(image *cluster.Image, row *kmsg.DeleteTopicsRequestTopic) cluster.TopicID {
	if row.TopicID != [16]byte{} {
		return row.TopicID
	}
	if row.Topic == nil {
		return cluster.TopicID{}
	}
	if t := image.Topic(*row.Topic); t != nil {
		return t.ID
	}
	return cluster.TopicID{}
}

func deletionDisabled(version int16) (int16, *string) {
	const text = "delete.topic.enable is false"
	if version < 3 {
		return invalidRequest(text)
	}
	return int16(protocol.ErrTopicDeletionDisabled), kmsg.StringPtr(text)
}
