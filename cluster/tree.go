package cluster

import "iter"

// tree is an immutable ordered map: an AVL tree whose set and remove copy the path to the root and share the rest, so that an
// image with 100,000 topics changes in microseconds and old images stay whole. Simpler (copying a Go map per change) cost
// 1 ms per topic at 10,000 topics. The zero tree is not usable; see newTree.
type tree[K, V any] struct {
	root    *treeNode[K, V]
	count   int
	compare func(a, b K) int
}

type treeNode[K, V any] struct {
	key         K
	value       V
	left, right *treeNode[K, V]
	height      int8
}

func newTree[K, V any](compare func(a, b K) int) tree[K, V] {
	return tree[K, V]{compare: compare}
}

// get returns the value of key, and whether there is one.
func (t tree[K, V]) get(key K) (V, bool) {
	for n := t.root; n != nil; {
		switch c := t.compare(key, n.key); {
		case c < 0:
			n = n.left
		case c > 0:
			n = n.right
		default:
			return n.value, true
		}
	}
	var none V
	return none, false
}

// set returns a tree in which key has value.
func (t tree[K, V]) set(key K, value V) tree[K, V] {
	root, added := t.insert(t.root, key, value)
	t.root = root
	if added {
		t.count++
	}
	return t
}

// remove returns a tree without key.
func (t tree[K, V]) remove(key K) tree[K, V] {
	root, removed := t.delete(t.root, key)
	if removed {
		t.root = root
		t.count--
	}
	return t
}

// all yields every pair in key order.
func (t tree[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { t.root.walk(yield) }
}

// from yields the pairs whose key is at least low, in key order.
func (t tree[K, V]) from(low K) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { t.walkFrom(t.root, low, yield) }
}

func (n *treeNode[K, V]) walk(yield func(K, V) bool) bool {
	return n == nil || n.left.walk(yield) && yield(n.key, n.value) && n.right.walk(yield)
}

func (t tree[K, V]) walkFrom(n *treeNode[K, V], low K, yield func(K, V) bool) bool {
	if n == nil {
		return true
	}
	if t.compare(n.key, low) < 0 {
		return t.walkFrom(n.right, low, yield)
	}
	return t.walkFrom(n.left, low, yield) && yield(n.key, n.value) && n.right.walk(yield)
}

func (t tree[K, V]) insert(n *treeNode[K, V], key K, value V) (_ *treeNode[K, V], added bool) {
	if n == nil {
		return &treeNode[K, V]{key: key, value: value, height: 1}, true
	}
	m := *n
	switch c := t.compare(key, n.key); {
	case c < 0:
		m.left, added = t.insert(n.left, key, value)
	case c > 0:
		m.right, added = t.insert(n.right, key, value)
	default:
		m.key, m.value = key, value
		return &m, false
	}
	return m.balanced(), added
}

func (t tree[K, V]) delete(n *treeNode[K, V], key K) (_ *treeNode[K, V], removed bool) {
	if n == nil {
		return nil, false
	}
	m := *n
	switch c := t.compare(key, n.key); {
	case c < 0:
		m.left, removed = t.delete(n.left, key)
	case c > 0:
		m.right, removed = t.delete(n.right, key)
	case n.left == nil:
		return n.right, true
	case n.right == nil:
		return n.left, true
	default:
		next := n.right
		for next.left != nil {
			next = next.left
		}
		m.key, m.value = next.key, next.value
		m.right, _ = t.delete(n.right, next.key)
		removed = true
	}
	if !removed {
		return n, false
	}
	return m.balanced(), true
}

func (n *treeNode[K, V]) tall() int8 {
	if n == nil {
		return 0
	}
	return n.height
}

// balanced returns n, which the caller has just copied and owns, rotated so that its sides differ by at most one in height.
func (n treeNode[K, V]) balanced() *treeNode[K, V] {
	switch d := n.left.tall() - n.right.tall(); {
	case d > 1:
		left := *n.left
		if left.left.tall() < left.right.tall() {
			pivot := *left.right
			left.right = pivot.left
			pivot.left = left.measured()
			left = pivot
		}
		n.left = left.right
		left.right = n.measured()
		return left.measured()
	case d < -1:
		right := *n.right
		if right.right.tall() < right.left.tall() {
			pivot := *right.left
			right.left = pivot.right
			pivot.right = right.measured()
			right = pivot
		}
		n.right = right.left
		right.left = n.measured()
		return right.measured()
	default:
		return n.measured()
	}
}

// measured returns a new node like n with its height set from its sides.
func (n treeNode[K, V]) measured() *treeNode[K, V] {
	n.height = 1 + max(n.left.tall(), n.right.tall())
	return &n
}
