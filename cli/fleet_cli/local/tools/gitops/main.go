// Command gitops-judge says what Flux and Argo CD make of an object: kstatus itself, and Lua in the
// virtual machine that Argo CD runs its customizations in.
//
// It reads questions as JSON values from standard input and answers each with one line.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"os"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	luajson "layeh.com/gopher-json"
)

// patience is what Argo CD grants a script.
const patience = time.Second

// question is about an object: its kstatus, or what a script returns that finds it as `obj`.
type question struct {
	Object json.RawMessage `json:"object"`
	Lua    string          `json:"lua"`
}

type answer struct {
	Status  string          `json:"status,omitempty"`
	Message string          `json:"message,omitempty"`
	Value   json.RawMessage `json:"value,omitempty"`
	Error   string          `json:"error,omitempty"`
}

func main() {
	asked, said := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var one question
		if err := asked.Decode(&one); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			log.Fatal(err)
		}
		if err := said.Encode(judge(one)); err != nil {
			log.Fatal(err)
		}
	}
}

func judge(one question) answer {
	if one.Lua != "" {
		value, err := run(one.Lua, one.Object)
		if err != nil {
			return answer{Error: err.Error()}
		}
		return answer{Value: value}
	}
	var object unstructured.Unstructured
	if err := object.UnmarshalJSON(one.Object); err != nil {
		return answer{Error: err.Error()}
	}
	result, err := status.Compute(&object)
	if err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Status: result.Status.String(), Message: result.Message}
}

// run gives a script what Argo CD gives to one that does not ask for all libraries: package, base
// and table. So it must do without string, math and io. Of os Argo CD lets time and date through,
// we do not.
func run(script string, object json.RawMessage) (json.RawMessage, error) {
	machine := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer machine.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage},
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
	} {
		call := lua.P{Fn: machine.NewFunction(library.open), Protect: true}
		if err := machine.CallByParam(call, lua.LString(library.name)); err != nil {
			return nil, err
		}
	}
	limit, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	machine.SetContext(limit)
	found, err := luajson.Decode(machine, object)
	if err != nil {
		return nil, err
	}
	machine.SetGlobal("obj", found)
	if err := machine.DoString(script); err != nil {
		return nil, err
	}
	return luajson.Encode(machine.Get(-1))
}
