// A takeover with a client that a public generator has made from the description of the API.
// Usage: node takeover.js URL, with the generated client in the folder `generated` beside it.
import { createClient } from './generated/client';
import {
    addClientSessionOnPremises,
    addGroupOnPremises,
    postHeartbeatOnPremises,
    putGroup,
    registerSession,
    sendHeartbeat,
} from './generated/sdk.gen';
import type { ClientRole, ServerSentEvent } from './generated/types.gen';

declare const process: { argv: string[] };

// What is odd in a name has to be encoded.
const place = { tenantId: 'plant', namespaceId: 'line 1', groupid: 'pump &7%' };
const timeoutMs = 1_000;
const client = createClient({ baseUrl: process.argv[2] });

function check(holds: boolean, what: unknown): void {
    if (!holds) throw new Error(JSON.stringify(what));
}

// The types of events are told apart by their names.
export function session(event: ServerSentEvent): string | undefined {
    return event.event === 'EventsMissed' ? undefined : event.data;
}

async function beat(sessionId: string, actingAs: ClientRole): Promise<[ClientRole, number, number]> {
    const answer = await sendHeartbeat({
        client,
        path: { ...place, sessionId },
        headers: { 'Failover-Role': actingAs },
        body: { PercentHealthyStreams: 99.5, HeartbeatTime: new Date().toISOString() },
        throwOnError: true,
    });
    const header = (name: string): number => Number(answer.response.headers.get(name));
    check(header('Failover-Timeout-Ms') === timeoutMs, 'every answer tells the timeout');
    return [answer.data.Role, header('Failover-Term'), header('Failover-Lease-Ms')];
}

async function takeover(): Promise<void> {
    const group = await putGroup({ client, path: place, body: { Milliseconds: timeoutMs }, throwOnError: true });
    check(group.data === place.groupid, group.data);
    for (const Id of ['a', 'b']) {
        await registerSession({ client, path: place, body: { Id }, throwOnError: true });
    }
    const [first, firstTerm, lease] = await beat('a', 0);
    check(first === 1 && lease === timeoutMs, [first, lease]);
    let [role, term] = await beat('b', 0);
    check(role === 0, role);
    // Now a falls silent, and b goes on.
    const began = Date.now();
    while (role !== 1) {
        check(Date.now() - began < 20_000, 'b did not take over');
        await new Promise((resume) => setTimeout(resume, 100));
        [role, term] = await beat('b', role);
    }
    check(term > firstTerm, [term, firstTerm]);
    check((await beat('a', 0))[0] === 0, 'a stands by');
    const refused = await sendHeartbeat({ client, path: { ...place, sessionId: 'none' }, body: {} });
    check(refused.response?.status === 404 && refused.error?.Reason !== undefined, refused.error);
    console.log(`b took over after ${Date.now() - began} ms, with term ${term} after ${firstTerm}`);
}

// In the released form, on the premises.
async function takeoverOnPremises(): Promise<void> {
    const groupid = 'Pumpe 7 Süd';
    const body = { Id: groupid, FailoverTimeout: '00:00:01' };
    const group = await addGroupOnPremises({ client, body, throwOnError: true });
    check(group.data.FailoverTimeout === '00:00:01', group.data);
    for (const Id of ['a', 'b']) {
        await addClientSessionOnPremises({ client, path: { groupid }, body: { Id }, throwOnError: true });
    }
    const beat = async (sessionId: string): Promise<ClientRole> => {
        const path = { groupid, sessionId };
        const answer = await postHeartbeatOnPremises({ client, path, body: { FailoverScore: 100 }, throwOnError: true });
        check(answer.data.LastDataProcessedTime.endsWith('Z'), answer.data);
        return answer.data.Role;
    };
    check((await beat('a')) === 1, 'a is the first');
    const began = Date.now();
    while ((await beat('b')) !== 1) {
        check(Date.now() - began < 20_000, 'b did not take over');
        await new Promise((resume) => setTimeout(resume, 100));
    }
    console.log(`on the premises b took over after ${Date.now() - began} ms`);
}

takeover().then(takeoverOnPremises).catch((error) => {
    console.error(error);
    throw error;
});
