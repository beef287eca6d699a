// Bench measures the hub against the limit: raw TCP, written in Go, in the same run.
//
//	go run ./hub/hubtest/bench [-run fanout,queued,reply,fanout2,reply2,joins,presence,memory,million] [-markdown]
//
// The server, ../peer, is a process of its own on one core, the load is on the others; CPU is what
// the server's process used, user and system. A figure means something next to the raw row
// of the same run, and nothing by itself: machines are shared and noisy.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// row is one line of the result.
type row struct {
	work, unit string
	hub, raw   float64 // 0: not measured
	note       string
}

type bench struct {
	name string
	run  func(*setup) (row, error)
}

var benches = []bench{
	{"fanout", fanout},
	{"queued", queued},
	{"reply", reply},
	{"fanout2", fanout2},
	{"reply2", reply2},
	{"joins", joins},
	{"presence", presenceJoins},
	{"memory", memory},
	{"million", million},
}

func main() {
	rawListen := flag.String("raw", "", "serve raw TCP on this address (used by the program itself)")
	inMemory := flag.Int("in-memory", 0, "join so many connections in memory (used by the program itself)")
	run := flag.String("run", "", "comma-separated names; empty for all")
	scale := flag.Float64("scale", 1, "of the amount of work")
	markdown := flag.Bool("markdown", false, "print a Markdown table")
	flag.Parse()
	var err error
	switch {
	case *rawListen != "":
		err = serveRaw(*rawListen)
	case *inMemory > 0:
		err = joinInMemory(*inMemory)
	default:
		err = measure(*run, *scale, *markdown)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func measure(run string, scale float64, markdown bool) error {
	s, err := newSetup(scale)
	if err != nil {
		return err
	}
	defer s.close()
	var rows []row
	for _, b := range benches {
		if run != "" && !strings.Contains(","+run+",", ","+b.name+",") {
			continue
		}
		start := time.Now()
		r, err := b.run(s)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s: %v\n", b.name, time.Since(start).Round(time.Millisecond))
		rows = append(rows, r)
	}
	if markdown {
		printMarkdown(rows)
	} else {
		printTable(rows)
	}
	return nil
}

func (r row) cells() []string {
	cell := func(v float64) string {
		if v == 0 {
			return "-"
		}
		return fmt.Sprintf("%.3g", v)
	}
	ratio := "-"
	if r.raw > 0 && r.hub > 0 {
		ratio = fmt.Sprintf("%.2f", r.raw/r.hub)
	}
	return []string{r.work, r.unit, cell(r.hub), cell(r.raw), ratio, r.note}
}

var heads = []string{"work", "unit", "hub", "raw TCP", "raw / hub", "note"}

func printTable(rows []row) {
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(heads, "\t"))
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join(r.cells(), "\t"))
	}
	w.Flush()
}

func printMarkdown(rows []row) {
	fmt.Printf("%s, %s/%s, %d CPUs, kernel and load on the same machine.\n\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	fmt.Println("| " + strings.Join(heads, " | ") + " |")
	fmt.Println("|" + strings.Repeat(" --- |", len(heads)))
	for _, r := range rows {
		fmt.Println("| " + strings.Join(r.cells(), " | ") + " |")
	}
}
