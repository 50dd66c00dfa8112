import failover.ApiClient;
import failover.ApiException;
import failover.ApiResponse;
import failover.api.ClientSessionsApi;
import failover.api.GroupsApi;
import failover.model.ClientRole;
import failover.model.ClientSessionRegistration;
import failover.model.FailoverHeartbeat;
import failover.model.FailoverResponse;
import failover.model.GroupConfiguration;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;

/**
 * An adapter with a client that was generated from the description of the API; what is written here
 * is the trust rule. Of a group, one sends at a time.
 *
 * <pre>java Adapter plant/line1/pump adapter-1 http://127.0.0.1:8080</pre>
 */
public final class Adapter {
    /** How much earlier than its lease it stops, in seconds. */
    private static final double MARGIN = 0.05;
    private static final Path UPTIME = Path.of("/proc/uptime");

    private final String tenant, namespace, group, session;
    private ClientSessionsApi sessions;
    private GroupsApi groups;
    private final ApiClient client = new ApiClient();

    // What the heart writes and the work reads, each holding the lock `this`. Whoever acts holds it
    // for as long as it acts: meanwhile nobody says that this one has stopped.
    private ClientRole role = ClientRole.Secondary;
    private long term = 0;
    private double actUntil = 0;
    private double half = 1;
    private boolean isRegistered = false;
    private boolean isEnding = false;
    private OffsetDateTime dataSent = null;

    private Adapter(String path, String session, String url) {
        String[] names = path.split("/");
        tenant = names[0];
        namespace = names[1];
        group = names[2];
        this.session = session;
        client.updateBaseUri(url);
        client.setConnectTimeout(Duration.ofSeconds(1));
        String key = System.getenv("CLIENT_FAILOVER_TOKEN");
        if (key != null) {
            client.setRequestInterceptor(request -> request.header("Authorization", "Bearer " + key));
        }
        waitFor(half);
    }

    /** An answer is waited for that long. What is generated takes this over when it is made. */
    private void waitFor(double seconds) {
        client.setReadTimeout(Duration.ofMillis((long) (seconds * 900)));
        sessions = new ClientSessionsApi(client);
        groups = new GroupsApi(client);
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments.length < 3) {
            System.err.println("which group, which session, and where?");
            System.exit(2);
        }
        Adapter adapter = new Adapter(arguments[0], arguments[1], arguments[2]);
        Thread heart = new Thread(adapter::beat, "heart");
        heart.start();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> adapter.leave(heart)));
        while (true) {
            adapter.act();
            Thread.sleep(50);
        }
    }

    /** In seconds, on a clock that nobody sets and that goes on while the machine sleeps. */
    private static double clock() {
        if (!Files.isReadable(UPTIME)) {
            // This one may stand still meanwhile: disable suspension there.
            return System.nanoTime() / 1e9;
        }
        try {
            return Double.parseDouble(Files.readString(UPTIME).split(" ")[0]);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    /** Sends, if this one is Primary. Short work only: nothing cuts it off at the end of the lease. */
    private synchronized void act() {
        try {
            if (clock() < actUntil) {
                System.out.println(session + " sends, in term " + term);
                dataSent = OffsetDateTime.now(ZoneOffset.UTC);
            }
        } catch (UncheckedIOException error) {
            System.err.println("no clock, and so nothing is done: " + error);
        }
    }

    private void beat() {
        while (true) {
            double sentAt = clock(); // A lease counts from before its heartbeat leaves.
            double pause;
            try {
                if (!isRegistered) {
                    register();
                    sentAt = clock();
                }
                pause = heartbeat(sentAt);
            } catch (ApiException | RuntimeException error) {
                // Whatever it is: the heart goes on.
                pause = failed(error instanceof ApiException refused ? refused.getCode() : 0);
                System.err.println(session + ": " + error);
            }
            if (restedUntilTheEnd(sentAt + pause)) {
                return;
            }
        }
    }

    /** Waits until then; whether this one is to end. */
    private synchronized boolean restedUntilTheEnd(double until) {
        try {
            for (double left = until - clock(); left > 0 && !isEnding; left = until - clock()) {
                wait((long) Math.max(1, left * 1000));
            }
        } catch (InterruptedException interrupted) {
            return true;
        }
        return isEnding;
    }

    private void register() throws ApiException {
        ClientSessionRegistration registration = new ClientSessionRegistration().id(session).name(session);
        try {
            sessions.registerSession(tenant, namespace, group, registration, null);
        } catch (ApiException error) {
            if (error.getCode() != 404) {
                throw error;
            }
            groups.createGroup(tenant, namespace, new GroupConfiguration().id(group).failoverTimeout("00:00:02"), null);
            sessions.registerSession(tenant, namespace, group, registration, null);
        }
        isRegistered = true;
    }

    /** Sends one and heeds the answer; how long after its sending the next is due. */
    private double heartbeat(double sentAt) throws ApiException {
        FailoverHeartbeat said = new FailoverHeartbeat().percentHealthyStreams(BigDecimal.valueOf(100));
        ClientRole was;
        synchronized (this) {
            // Nobody acts in a role that this does not say.
            if (role == ClientRole.Primary && sentAt >= actUntil) {
                role = ClientRole.Secondary;
            }
            if (role != ClientRole.Primary) {
                actUntil = 0;
            }
            was = role;
            said.heartbeatTime(OffsetDateTime.now(ZoneOffset.UTC)).lastDataSendTime(dataSent);
        }
        ApiResponse<FailoverResponse> answer =
            sessions.sendHeartbeatWithHttpInfo(tenant, namespace, group, session, said, was, term, null);
        // All of it is read before any of it is believed.
        ClientRole toldRole = answer.getData().getRole();
        long toldTerm = number(answer, "failover-term");
        double lease = number(answer, "failover-lease-ms") / 1000.0;
        double toldHalf = number(answer, "failover-timeout-ms") / 2000.0;
        if (toldHalf != half) {
            waitFor(toldHalf);
        }
        synchronized (this) {
            role = toldRole;
            term = toldTerm;
            half = toldHalf;
            boolean mayAct = role == ClientRole.Primary && !isEnding;
            actUntil = mayAct ? sentAt + lease - Math.min(MARGIN, lease / 4) : 0;
            if (role == ClientRole.PendingPrimary) {
                return half / 10; // The sooner it asks, the sooner it is Primary.
            }
            // Whoever takes over waits to hear that this one has stopped.
            return was == ClientRole.Primary && role != ClientRole.Primary ? 0 : half;
        }
    }

    private synchronized double failed(int status) {
        if (status == 404) {
            // Deleted: stop at once, and register again.
            role = ClientRole.Secondary;
            actUntil = 0;
            isRegistered = false;
            return half / 5;
        }
        // Whatever else it is says nothing about the role. The lease goes on until it ends.
        return half;
    }

    private static long number(ApiResponse<?> answer, String header) {
        return Long.parseLong(answer.getHeaders().get(header).get(0));
    }

    private void leave(Thread heart) {
        synchronized (this) {
            isEnding = true;
            actUntil = 0;
            notifyAll();
        }
        try {
            heart.join((long) (half * 1000) + 500);
            if (!heart.isAlive() && isRegistered) {
                sessions.deleteSession(tenant, namespace, group, session, null, null, null);
            }
        } catch (ApiException | InterruptedException error) {
            System.err.println("no goodbye: " + error.getMessage());
        }
    }
}
