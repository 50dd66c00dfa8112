# A client with two mistakes: it does not wait for one answer before it sends the next heartbeat,
# and it takes any answer for the newest.
import json, sys, threading, time, urllib.request

URL = sys.argv[2] + "/api/v1/tenants/t/namespaces/n/clientfailover/groups/pump/clientsessions"
me, role = sys.argv[1], 0

def ask(path, body):
    request = urllib.request.Request(URL + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)

def beat():
    global role
    try:
        role = ask("/" + me, {"PercentHealthyStreams": 100})["Role"]
    except OSError:
        pass

def act():
    while True:
        if role == 1:
            print(me, flush=True)
        time.sleep(0.01)

ask("", {"Id": me})
threading.Thread(target=act, daemon=True).start()
while True:
    threading.Thread(target=beat, daemon=True).start()
    time.sleep(float(sys.argv[3]) / 2)
