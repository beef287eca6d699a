// Command hostile attacks a hub, in one way after the other, and prints what each attack cost: how much
// longer 200 good devices waited for their acknowledgements, what became of their readings, and by how
// much memory, disk, log and audit grew. The hub is a process of its own with its defaults; its
// attackers are processes of the lowest priority, as they stand for other machines.
//
//	make build && go run ./cmd/hostile
//	go run ./cmd/hostile -hub /usr/local/bin/devicehub commands tokens
//
// The tests of this package hold what can be counted: each attack has its bound, and no good reading
// is lost or refused.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	if onMission() {
		return
	}
	var p plan
	flag.StringVar(&p.program, "hub", "bin/devicehub", "the `program`")
	flag.IntVar(&p.devices, "devices", 200, "good `devices`")
	flag.DurationVar(&p.every, "every", 200*time.Millisecond, "how often each sends a reading")
	flag.DurationVar(&p.quiet, "quiet", 8*time.Second, "how long the hub is watched before the attack")
	flag.DurationVar(&p.under, "under", 12*time.Second, "how long the attack lasts")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: hostile [flags] [attack...]\n\nThe attacks:")
		for _, a := range attacks() {
			fmt.Fprintf(flag.CommandLine.Output(), "  %-11s %s %s\n", a.name, a.who, a.does)
		}
		fmt.Fprintln(flag.CommandLine.Output(), "\nThe flags:")
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := table(ctx, os.Stdout, p, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		os.Exit(1)
	}
}

// table plays the attacks of these names, or all, and writes a line for each.
func table(ctx context.Context, out io.Writer, p plan, names []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(attacks(), func(a attack) bool { return a.name == name }) {
			return fmt.Errorf("there is no attack %q", name)
		}
	}
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "| attack\t| p50 ms\t| p99 ms\t| p99 ×\t| memory MB\t| disk MB/min\t| log MB/min\t| audit\t| hub's cores\t| good devices\t| the attacker saw\t|")
	fmt.Fprintln(w, "| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t|")
	for _, a := range attacks() {
		if len(names) > 0 && !slices.Contains(names, a.name) {
			continue
		}
		r, err := besiege(ctx, p, a, nil)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			fmt.Fprintf(w, "| %s\t| %v\t|\n", a.name, err)
			continue
		}
		fmt.Fprintln(w, r.line(a.name))
		fmt.Fprintln(os.Stderr, r.line(a.name))
	}
	return w.Flush()
}

// line is one line of the table.
func (r *report) line(name string) string {
	ms := func(t *took, q float64) float64 { return float64(t.quantile(q).Microseconds()) / 1000 }
	perMinute := func(bytes int64) float64 { return max(0, float64(bytes)/r.under.Minutes()/1e6) }
	became := "all well"
	if n := len(r.trouble); n > 0 {
		became = fmt.Sprintf("%d in trouble: %.100s", n, strings.ReplaceAll(r.trouble[0], "\n", " "))
	}
	audited := fmt.Sprint(r.audited)
	if r.audited >= 1000 {
		audited = "1000 or more"
	}
	return fmt.Sprintf("| %s\t| %.1f → %.1f\t| %.1f → %.1f\t| %.1f\t| %d\t| %.1f\t| %.2f\t| %s\t| %.2f\t| %s\t| %s\t|", name,
		ms(r.quietAcks, 50), ms(r.underAcks, 50), ms(r.quietAcks, 99), ms(r.underAcks, 99), ms(r.underAcks, 99)/max(0.001, ms(r.quietAcks, 99)),
		max(0, r.resident>>20), perMinute(r.disk), perMinute(r.log), audited, r.cpu, became, r.seen.String())
}
