package broker

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/protocol"
)

func TestApiVersions(t *testing.T) {
	tb := startBroker(t, nil)
	c := tb.dial()
	for version := int16(0); version <= 5; version++ {
		req := kmsg.NewPtrApiVersionsRequest()
		req.ClientSoftwareName, req.ClientSoftwareVersion = "apache-kafka-java", "4.4.0"
		resp := c.request(req, version).(*kmsg.ApiVersionsResponse)
		if resp.ErrorCode != 0 || len(resp.ApiKeys) != len(tb.dispatcher.table) {
			t.Fatalf("version %d: error %d, %d keys, want %d", version, resp.ErrorCode, len(resp.ApiKeys), len(tb.dispatcher.table))
		}
		for _, k := range resp.ApiKeys {
			supported, ok := protocol.SupportedRange(k.ApiKey)
			if !ok || k.MinVersion != supported.Min || k.MaxVersion != supported.Max {
				t.Errorf("version %d: key %d: advertised %d-%d, want %d-%d",
					version, k.ApiKey, k.MinVersion, k.MaxVersion, supported.Min, supported.Max)
			}
		}
		if len(resp.SupportedFeatures) != 0 || len(resp.FinalizedFeatures) != 0 {
			t.Errorf("version %d: features %v %v, want none", version, resp.SupportedFeatures, resp.FinalizedFeatures)
		}
	}
}

func TestApiVersionsUnknownVersion(t *testing.T) {
	tb := startBroker(t, nil)
	c := tb.dial()
	for _, version := range []int16{6, 99, 32767, -1} {
		// What follows the first 8 bytes of such a request cannot be known.
		c.write(framed(protocol.KeyApiVersions, version, []byte{1, 2, 3}))
		frame := c.frame()
		resp := kmsg.NewPtrApiVersionsResponse()
		if err := resp.ReadFrom(frame[4:]); err != nil {
			t.Fatalf("version %d: not a v0 body: %v", version, err)
		}
		wantCode(t, fmt.Sprintf("version %d", version), resp.ErrorCode, protocol.ErrUnsupportedVersion)
		if len(resp.ApiKeys) == 0 {
			t.Errorf("version %d: no list", version)
		}
	}
	c.request(kmsg.NewPtrApiVersionsRequest(), 0) // the connection goes on
}

func TestApiVersionsRefuses(t *testing.T) {
	tb := startBroker(t, nil)
	c := tb.dial()
	for _, name := range []string{"", "-a", "a-", "a b", "a\n", "ä", "."} {
		req := kmsg.NewPtrApiVersionsRequest()
		req.ClientSoftwareName, req.ClientSoftwareVersion = name, "1"
		wantCode(t, fmt.Sprintf("name %q", name), c.request(req, 3).(*kmsg.ApiVersionsResponse).ErrorCode, protocol.ErrInvalidRequest)
	}
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "a", "1"
	req.NodeID = tb.nodeID + 1
	wantCode(t, "other node", c.request(req, 5).(*kmsg.ApiVersionsResponse).ErrorCode, protocol.ErrRebootstrapRequired)
	req.NodeID, req.ClusterID = tb.nodeID, kmsg.StringPtr("another cluster")
	wantCode(t, "other cluster", c.request(req, 5).(*kmsg.ApiVersionsResponse).ErrorCode, protocol.ErrRebootstrapRequired)
	req.ClusterID = kmsg.StringPtr(tb.ClusterID())
	wantCode(t, "this node", c.request(req, 5).(*kmsg.ApiVersionsResponse).ErrorCode, protocol.ErrNone)
}
