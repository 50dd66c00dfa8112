/* Preloaded into a server that a test runs on: its clock can be set and its disk can stall, as the file that SHIM_STATE names
 * says at any moment. Two numbers of 64 bits: by how many microseconds the clock is off, and whether syncs wait. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *state;

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("SHIM_STATE");
	int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, 16, PROT_READ, MAP_SHARED, file, 0);

	if (mapped != MAP_FAILED)
		state = mapped;
	if (file >= 0)
		close(file);
}

#define REAL(function) ((__typeof__(&function)) dlsym(RTLD_NEXT, #function))

int clock_gettime(clockid_t id, struct timespec *at)
{
	int result = REAL(clock_gettime)(id, at);

	if (result == 0 && id == CLOCK_REALTIME && state) {
		int64_t ns = at->tv_nsec + (state[0] % 1000000) * 1000;

		at->tv_sec += state[0] / 1000000 + ns / 1000000000;
		ns %= 1000000000;
		if (ns < 0) {
			ns += 1000000000;
			at->tv_sec -= 1;
		}
		at->tv_nsec = ns;
	}
	return result;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone)
{
	struct timespec now;
	int result = clock_gettime(CLOCK_REALTIME, &now);

	(void) zone;
	at->tv_sec = now.tv_sec;
	at->tv_usec = now.tv_nsec / 1000;
	return result;
}

static void stall(void)
{
	struct timespec moment = {0, 5000000};

	while (state && state[1])
		nanosleep(&moment, NULL);
}

int fsync(int file)
{
	stall();
	return REAL(fsync)(file);
}

int fdatasync(int file)
{
	stall();
	return REAL(fdatasync)(file);
}
