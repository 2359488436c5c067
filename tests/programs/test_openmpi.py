"""Open MPI: its hooks on memory, shared memory between processes, and messages from blocks that come and go."""

import os

from support import ProgramTest, main

SOURCE = r"""
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int argc, char **argv) {
	int rank, size, provided;
	MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	unsigned long sum = 0;
	for (int i = 0; i < 300; i++) {
		size_t bytes = (size_t)(i % 20 == 0 ? 3000000 : i * 97 + 1);
		unsigned char *out = malloc(bytes), *in = malloc(bytes);
		memset(out, rank + i, bytes);
		MPI_Sendrecv(out, (int)bytes, MPI_BYTE, (rank + 1) % size, i, in, (int)bytes, MPI_BYTE, (rank + size - 1) % size, i,
			MPI_COMM_WORLD, MPI_STATUS_IGNORE);
		for (size_t k = 0; k < bytes; k++) sum += in[k];
		free(out);
		free(in);
	}
	unsigned long total = 0;
	MPI_Reduce(&sum, &total, 1, MPI_UNSIGNED_LONG, MPI_SUM, 0, MPI_COMM_WORLD);
	void *shared;
	MPI_Alloc_mem(100000, MPI_INFO_NULL, &shared);
	memset(shared, 1, 100000);
	MPI_Free_mem(shared);
	if (rank == 0) printf("%d processes, %lu\n", size, total);
	MPI_Finalize();
	return 0;
}
"""


class Openmpi(ProgramTest):
    package = "openmpi-bin"
    needs = ("mpirun", "mpicc")

    def prepare(self):
        run = self.builder()
        run.write("ring.c", SOURCE)
        run.command("mpicc", "-O1", "ring.c", "-o", "../ring")

    def work(self, run):
        env = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1",
               "OMPI_MCA_btl_tcp_if_include": "lo", "OMPI_MCA_oob_tcp_if_include": "lo", "PRTE_ALLOW_RUN_AS_ROOT": "1"}
        ring = os.path.join(self.folder, "ring")
        told = [run.command("mpirun", "-n", "3", "--mca", "btl", transport, ring, env=env, seconds=100).out
                for transport in ("self,vader", "self,tcp")]
        run.assert_loads("mpirun", "-n", "1", ring, env=env, tables=2)
        return "".join(told)


if __name__ == "__main__":
    main()
