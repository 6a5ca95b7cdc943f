package netpoll

import "container/heap"

// deadlines is a heap of connections by deadlineAt. Each connection is in it at most once. Loop-owned.
type deadlines struct{ heap deadlineHeap }

func (d *deadlines) first() *conn {
	if len(d.heap) == 0 {
		return nil
	}
	return d.heap[0]
}

func (d *deadlines) set(c *conn, at int64) {
	c.deadlineAt = at
	if c.heapIndex < 0 {
		heap.Push(&d.heap, c)
	} else {
		heap.Fix(&d.heap, c.heapIndex)
	}
}

func (d *deadlines) remove(c *conn) {
	if c.heapIndex >= 0 {
		heap.Remove(&d.heap, c.heapIndex)
	}
}

// deadlineHeap implements heap.Interface.
type deadlineHeap []*conn

func (h deadlineHeap) Len() int           { return len(h) }
func (h deadlineHeap) Less(i, j int) bool { return h[i].deadlineAt < h[j].deadlineAt }
func (h deadlineHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapIndex, h[j].heapIndex = i, j
}

func (h *deadlineHeap) Push(x any) {
	c := x.(*conn)
	c.heapIndex = len(*h)
	*h = append(*h, c)
}

func (h *deadlineHeap) Pop() any {
	old := *h
	n := len(old) - 1
	c := old[n]
	old[n] = nil
	*h = old[:n]
	c.heapIndex = -1
	return c
}
