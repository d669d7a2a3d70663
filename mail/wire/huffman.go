package wire

// huffman is a canonical code: how many codes of each length there are, and the symbols in the
// order of their codes.
type huffman struct {
	count   [16]uint16
	symbols []uint16
}

// makeHuffman makes a code of the symbols' lengths. One that says too much is refused; one that leaves
// some out is allowed only with a single symbol of one bit, or with none.
func makeHuffman(lengths []uint8) (*huffman, bool) {
	h := &huffman{}
	used := 0
	for _, l := range lengths {
		h.count[l]++
		if l != 0 {
			used++
		}
	}
	h.count[0] = 0
	left := 1
	for l := 1; l <= 15; l++ {
		if left = left<<1 - int(h.count[l]); left < 0 {
			return nil, false
		}
	}
	if left > 0 && used > 0 && !(used == 1 && h.count[1] == 1) {
		return nil, false
	}
	var next [16]uint16
	for l := 1; l < 15; l++ {
		next[l+1] = next[l] + h.count[l]
	}
	h.symbols = make([]uint16, used)
	for s, l := range lengths {
		if l != 0 {
			h.symbols[next[l]] = uint16(s)
			next[l]++
		}
	}
	return h, true
}

var fixedLit, fixedDist = func() (*huffman, *huffman) {
	lengths := make([]uint8, 288)
	for i := range lengths {
		switch {
		case i < 144:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		case i < 280:
			lengths[i] = 7
		default:
			lengths[i] = 8
		}
	}
	lit, _ := makeHuffman(lengths)
	dist := make([]uint8, 32)
	for i := range dist {
		dist[i] = 5
	}
	d, _ := makeHuffman(dist)
	return lit, d
}()
