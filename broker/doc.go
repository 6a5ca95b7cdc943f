// Package broker is the one package that knows everyone: it turns frames from netpoll into calls on the
// engine and the cluster, and their results into responses.
//
// # Place in the path
//
// netpoll hands every whole frame to dispatcher.OnFrame on the connection's loop. The dispatch table
// (dispatch.go) finds the handler by API key, decodes the body and runs the handler: in place for the short
// ones (Produce, Fetch, ApiVersions), on the worker pool for those that may block (admin
// requests, ListOffsets, DeleteRecords). A handler answers exactly once through its request (request.go);
// the netpoll ticket taken at the frame's arrival keeps the responses of a connection in request order.
//
// One file per API, named after it (api_produce.go and so on), each opening with versions, behaviour and
// deviations. Requests that wait (a fetch for bytes, a produce for an fsync, the creation or deletion of topics for the metadata log) are
// objects that log waiters and a timing wheel complete (delayed_fetch.go, delayed_produce.go, delayed_change.go): they hold no goroutine.
//
// Every error of a lower package becomes a Kafka code in exactly one table, errors.go.
//
// # Goroutines
//
// The package owns the worker pool (workers.go), the timing wheel's driver, the goroutine that deletes logs (topics.go)
// and the metrics server. They start and stop with the broker. Everything else runs on netpoll's loops, on the log directory's fsync goroutines (through log
// waiters) or on the cluster's goroutine (image changes).
//
// # Locks
//
// fetchSession.mu is held while the session's partitions are looked at; under it come fetchSession.news and the engine's
// waiter lists. All others are leaves: fetchSession.news, fetchSessions.mu, workers.mu, wakes.mu, parkedList.mu,
// delayedProduce.mu, producerIDs.mu (held while a block is allocated, by workers only), toldErrors.mu and dispatcher.mu. No lock of
// this package is held while a response is sent, nor by a log waiter's callback when it calls anything else.
package broker
