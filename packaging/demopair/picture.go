package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// bucket is the width of a bar of the picture.
const bucket = 200 * time.Millisecond

// event is something to mark in the picture.
type event struct {
	at   time.Time
	text string
}

// picture draws how many messages were acknowledged over time, as SVG.
func picture(file string, begin time.Time, acks []time.Time, events []event) error {
	const width, height, left, top = 960, 300, 50, 40
	counts := map[int]int{}
	last, most := 1, 1
	for _, a := range acks {
		i := int(a.Sub(begin) / bucket)
		counts[i]++
		last, most = max(last, i+1), max(most, counts[i])
	}
	x := func(d time.Duration) float64 {
		return left + float64(d)/float64(time.Duration(last)*bucket)*(width-left-10)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height+30)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height+30)
	for i := range last {
		h := float64(counts[i]) / float64(most) * (height - top - 20)
		fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="#4a7ab5"/>`+"\n",
			x(time.Duration(i)*bucket), height-h, x(bucket)-left-0.5, h)
	}
	for s := 0; time.Duration(s)*time.Second < time.Duration(last)*bucket; s += 5 {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%d s</text>`+"\n", x(time.Duration(s)*time.Second), height+16, s)
	}
	for i, e := range events {
		at := x(e.at.Sub(begin))
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#b5382a" stroke-width="1.5"/>`+"\n", at, top-16+16*(i%2), at, height)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" fill="#b5382a">%s</text>`+"\n", at+4, top-6+16*(i%2), e.text)
	}
	fmt.Fprintf(&b, `<text x="4" y="%d">%d/s</text>`+"\n", top+20, most*int(time.Second/bucket))
	fmt.Fprintf(&b, `<text x="%d" y="16">messages answered with 250 at the floating address</text>`+"\n</svg>\n", left)
	return os.WriteFile(file, []byte(b.String()), 0o644)
}
