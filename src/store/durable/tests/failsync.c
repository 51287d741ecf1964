/* Lets one fsync of a journal fail: the one that FAILSYNC counts to. The journal of a rehearsal does not count: it is thrown away. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fails(int fd)
{
    static int count;
    char link[64], path[4096];
    const char *at = getenv("FAILSYNC");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path);
    if (at == NULL || length < 4 || memcmp(path + length - 4, ".jnl", 4) != 0)
        return 0;
    if (memmem(path, length, "/rehearsal-", 11) != NULL)
        return 0;
    return __sync_add_and_fetch(&count, 1) == atoi(at);
}

int fdatasync(int fd)
{
    if (fails(fd)) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    if (fails(fd)) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_fsync, fd);
}
