package broker

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/protocol"
)

// DescribeCluster (key 60), versions 0-2.
//
// Tells the cluster's id, the brokers, and this one as the controller; the operations allowed when asked for. From v1 on the client
// says which kind of endpoint it means (KIP-919): there are only brokers here, so controllers are MISMATCHED_ENDPOINT_TYPE and anything
// else is UNSUPPORTED_ENDPOINT_TYPE. No broker is ever fenced (v2, KIP-1073).

// The kinds of endpoints of DescribeCluster.
const (
	endpointBrokers     = 1
	endpointControllers = 2
)

func (b *Broker) handleDescribeCluster(r *request, req *kmsg.DescribeClusterRequest) {
	resp := kmsg.NewPtrDescribeClusterResponse()
	resp.EndpointType = endpointBrokers
	if r.version >= 1 && req.EndpointType != endpointBrokers {
		code := protocol.ErrUnsupportedEndpointType
		if req.EndpointType == endpointControllers {
			code = protocol.ErrMismatchedEndpointType
		}
		resp.ErrorCode = int16(code)
		resp.ErrorMessage = kmsg.StringPtr(fmt.Sprintf("endpoint type %d was asked for, this is a broker, type %d", req.EndpointType, endpointBrokers))
		r.Reply(resp)
		return
	}
	resp.ClusterID = b.node.Image().ClusterID()
	resp.ControllerID = b.nodeID
	broker := kmsg.NewDescribeClusterResponseBroker()
	broker.NodeID = b.nodeID
	broker.Host, broker.Port = b.advertise(r.conn)
	resp.Brokers = append(resp.Brokers, broker)
	resp.ClusterAuthorizedOperations = operations(req.IncludeClusterAuthorizedOperations, clusterOperations)
	r.Reply(resp)
}
