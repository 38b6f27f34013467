// Command alerts says when alert rules would fire, by Prometheus' own engine for queries.
//
// It reads one JSON document with the rules and the scenes from standard input, and writes, for each scene, the alerts
// that fired in it, each with the minute of its first time and the labels that its query gave.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
)

type rule struct {
	Alert string `json:"alert"`
	Expr  string `json:"expr"`
	ForS  int    `json:"for_s"`
}

type scene struct {
	Load    string `json:"load"` // in the notation of promqltest: one sample a minute
	Minutes int    `json:"minutes"`
}

type document struct {
	Rules  []rule  `json:"rules"`
	Scenes []scene `json:"scenes"`
}

type firing struct {
	Alert  string `json:"alert"`
	Minute int    `json:"minute"`
	Last   int    `json:"last"`
	Labels string `json:"labels"`
}

// heart is what a test of promqltest needs of testing.TB, outside of a test.
type heart struct{}

func (heart) Helper() {}
func (heart) Name() string { return "alerts" }
func (heart) Cleanup(func()) {}
func (heart) Setenv(string, string) {}
func (heart) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (heart) FailNow() { panic("failed") }

func play(engine *promql.Engine, rules []rule, one scene) ([]firing, error) {
	storage := promqltest.LoadedStorage(heart{}, "load 1m\n"+one.Load)
	defer storage.Close()
	found := map[string]*firing{}
	since := map[string]int{}
	for minute := 0; minute <= one.Minutes; minute++ {
		for _, each := range rules {
			query, err := engine.NewInstantQuery(context.Background(), storage, nil, each.Expr, time.Unix(int64(minute*60), 0))
			if err != nil {
				return nil, err
			}
			result := query.Exec(context.Background())
			vector, err := result.Vector()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", each.Alert, err)
			}
			active := map[string]bool{}
			for _, sample := range vector {
				key := each.Alert + sample.Metric.String()
				active[key] = true
				if _, known := since[key]; !known {
					since[key] = minute
				}
				if (minute-since[key])*60 >= each.ForS {
					if found[key] == nil {
						found[key] = &firing{Alert: each.Alert, Minute: minute, Labels: sample.Metric.String()}
					}
					found[key].Last = minute
				}
			}
			for key := range since {
				if len(key) >= len(each.Alert) && key[:len(each.Alert)] == each.Alert && !active[key] {
					delete(since, key)
				}
			}
			query.Close()
		}
	}
	all := []firing{}
	for _, one := range found {
		all = append(all, *one)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Alert+all[i].Labels < all[j].Alert+all[j].Labels })
	return all, nil
}

func main() {
	var asked document
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		panic(err)
	}
	engine := promql.NewEngine(promql.EngineOpts{
		MaxSamples: 50_000_000, Timeout: time.Minute, LookbackDelta: 5 * time.Minute, EnableAtModifier: true, EnableNegativeOffset: true,
	})
	told := [][]firing{}
	for _, one := range asked.Scenes {
		fired, err := play(engine, asked.Rules, one)
		if err != nil {
			panic(err)
		}
		told = append(told, fired)
	}
	if err := json.NewEncoder(os.Stdout).Encode(told); err != nil {
		panic(err)
	}
}
