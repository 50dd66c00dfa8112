/* Preloaded into a server that a test runs on: its clock can be set, and its disk can stall and fill up, as the file that
 * SHIM_STATE names says at any moment. Three numbers of 64 bits: by how many microseconds the clock is off; whether syncs
 * wait; and whether the disk has room (0), no file grows (1), or the server's log takes nothing at all besides (2). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *state;

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("SHIM_STATE");
	int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, 24, PROT_READ, MAP_SHARED, file, 0);

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

/* Whether a write there finds no room: where it would make the file longer, and in the server's log wherever that is told. */
static int is_full(int file, off64_t end)
{
	struct stat64 status;
	char link[64], name[4096];
	ssize_t length;

	if (!state || !state[2] || fstat64(file, &status) != 0 || !S_ISREG(status.st_mode))
		return 0;
	if (end > status.st_size)
		return 1;
	snprintf(link, sizeof link, "/proc/self/fd/%d", file);
	length = state[2] > 1 ? readlink(link, name, sizeof name - 1) : -1;
	if (length < 0)
		return 0;
	name[length] = 0;
	return strstr(name, "/pg_wal/") != NULL;
}

#define UNLESS_FULL(file, end) \
	if (is_full(file, end)) { \
		errno = ENOSPC; \
		return -1; \
	}

static off64_t length_of(const struct iovec *parts, int count)
{
	off64_t length = 0;

	for (int part = 0; part < count; part++)
		length += parts[part].iov_len;
	return length;
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at)
{
	UNLESS_FULL(file, at + (off64_t) count)
	return REAL(pwrite64)(file, bytes, count, at);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t at)
{
	return pwrite64(file, bytes, count, at);
}

ssize_t pwritev64(int file, const struct iovec *parts, int count, off64_t at)
{
	UNLESS_FULL(file, at + length_of(parts, count))
	return REAL(pwritev64)(file, parts, count, at);
}

ssize_t pwritev(int file, const struct iovec *parts, int count, off_t at)
{
	return pwritev64(file, parts, count, at);
}
