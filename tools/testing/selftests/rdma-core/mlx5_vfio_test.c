// SPDX-License-Identifier: GPL-2.0
/*
 * rdma-core's mlx5 driver on a VF through VFIO (mlx5dv_get_vfio_device_list()): another
 * author's opinion of what firmware takes and answers.
 *
 * The argument is the address of a VF whose VFIO driver offers its group.
 */
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <endian.h>

#include <infiniband/mlx5dv.h>
#include <infiniband/verbs.h>

#include "kselftest_harness.h"

/* As include/linux/mlx5/mlx5_ifc.h has them. */
#define QUERY_HCA_CAP			0x100
#define ALLOC_TRANSPORT_DOMAIN		0x816
#define CREATE_TIS			0x912
#define NO_SUCH_COMMAND			0xfff
#define BAD_OP				0x02
#define CAP_GENERAL			0
#define OPMOD_GET_CUR			1
#define CAP_LEN				0x1000
/* create_tis_in: the context, and transport_domain in it. */
#define TIS_CONTEXT			0x20
#define TIS_TRANSPORT_DOMAIN		0x24
#define TIS_CONTEXT_LEN			0xa0
/* query_hca_cap_out: the capability page, and vhca_id in it. */
#define CAPABILITY			0x10
#define CAP_VHCA_ID			0x06
#define CAP_UMEM_UID_0			0x4a
#define UMEM_UID_0			0x20

static const char *device_bdf;

/* Writes the opcode and the modifier of a command. */
static void set_command(void *in, uint16_t opcode, uint16_t op_mod)
{
	uint16_t *words = in;

	words[0] = htobe16(opcode);
	words[3] = htobe16(op_mod);
}

/* Returns the number of what a command has made. */
static uint32_t made(const void *out)
{
	const uint32_t *words = out;

	return be32toh(words[2]) & 0xffffff;
}

FIXTURE(mlx5_vfio_test) {
	struct ibv_device **list;
	struct ibv_context *context;
};

FIXTURE_SETUP(mlx5_vfio_test)
{
	struct mlx5dv_vfio_context_attr attr = { .pci_name = device_bdf };

	self->list = mlx5dv_get_vfio_device_list(&attr);
	ASSERT_NE(NULL, self->list) {
		TH_LOG("no device %s: %s", device_bdf, strerror(errno));
	}
	self->context = ibv_open_device(self->list[0]);
	ASSERT_NE(NULL, self->context) {
		TH_LOG("%s does not come up: %s", device_bdf, strerror(errno));
	}
}

FIXTURE_TEARDOWN(mlx5_vfio_test)
{
	EXPECT_EQ(0, ibv_close_device(self->context));
	ibv_free_device_list(self->list);
}

TEST_F(mlx5_vfio_test, open)
{
	EXPECT_LE(0, mlx5dv_vfio_get_events_fd(self->context));
	EXPECT_EQ(0, mlx5dv_vfio_process_events(self->context));
}

/* It comes up on the VF that one before has left. */
TEST_F(mlx5_vfio_test, open_again)
{
	struct ibv_context *context;

	ASSERT_EQ(0, ibv_close_device(self->context));
	context = ibv_open_device(self->list[0]);
	ASSERT_NE(NULL, context);
	self->context = context;
}

TEST_F(mlx5_vfio_test, protection_domains)
{
	struct ibv_pd *pds[16];
	struct mlx5dv_pd numbers[16];
	int i, j;

	for (i = 0; i < 16; i++) {
		struct mlx5dv_obj obj = {};

		pds[i] = ibv_alloc_pd(self->context);
		ASSERT_NE(NULL, pds[i]);
		obj.pd.in = pds[i];
		obj.pd.out = &numbers[i];
		ASSERT_EQ(0, mlx5dv_init_obj(&obj, MLX5DV_OBJ_PD));
		for (j = 0; j < i; j++)
			EXPECT_NE(numbers[j].pdn, numbers[i].pdn);
	}
	for (i = 0; i < 16; i++)
		EXPECT_EQ(0, ibv_dealloc_pd(pds[i]));
}

/* Memory that does and does not begin and end with a page, of many sizes. */
TEST_F(mlx5_vfio_test, memory)
{
	static const struct {
		size_t offset;
		size_t length;
	} parts[] = {
		{ 0, 1 }, { 0, 4096 }, { 5, 1 }, { 4095, 2 }, { 100, 4096 },
		{ 0, 1 << 16 }, { 12288, 1 << 16 }, { 1, (1 << 21) - 1 },
		{ 8191, (3 << 20) + 3 },
	};
	size_t room = 8 << 20;
	struct ibv_mr *mrs[ARRAY_SIZE(parts)];
	struct ibv_pd *pd;
	void *memory;
	int i, j;

	pd = ibv_alloc_pd(self->context);
	ASSERT_NE(NULL, pd);
	ASSERT_EQ(0, posix_memalign(&memory, room, room));
	for (i = 0; i < (int)ARRAY_SIZE(parts); i++) {
		mrs[i] = ibv_reg_mr(pd, memory + parts[i].offset, parts[i].length,
				    IBV_ACCESS_LOCAL_WRITE);
		ASSERT_NE(NULL, mrs[i]) {
			TH_LOG("%zu bytes from %zu on: %s", parts[i].length,
			       parts[i].offset, strerror(errno));
		}
		for (j = 0; j < i; j++)
			EXPECT_NE(mrs[j]->lkey, mrs[i]->lkey);
	}
	for (i = 0; i < (int)ARRAY_SIZE(parts); i++)
		EXPECT_EQ(0, ibv_dereg_mr(mrs[i]));
	EXPECT_EQ(0, ibv_dealloc_pd(pd));
	free(memory);
}

TEST_F(mlx5_vfio_test, capabilities)
{
	static uint8_t out[CAPABILITY + CAP_LEN];
	uint8_t in[16] = {};
	uint16_t vhca;

	set_command(in, QUERY_HCA_CAP, CAP_GENERAL << 1 | OPMOD_GET_CUR);
	ASSERT_EQ(0, mlx5dv_devx_general_cmd(self->context, in, sizeof(in), out, sizeof(out)));
	memcpy(&vhca, out + CAPABILITY + CAP_VHCA_ID, sizeof(vhca));
	/* That of the PF is 0. */
	EXPECT_NE(0, be16toh(vhca));
	EXPECT_NE(0, out[CAPABILITY + CAP_UMEM_UID_0] & UMEM_UID_0);
}

/* What uses another object goes first. */
TEST_F(mlx5_vfio_test, objects)
{
	uint8_t tis_in[TIS_CONTEXT + TIS_CONTEXT_LEN] = {};
	struct mlx5dv_devx_obj *domain, *tis;
	uint8_t in[16] = {}, out[16] = {};
	uint32_t number;

	set_command(in, ALLOC_TRANSPORT_DOMAIN, 0);
	domain = mlx5dv_devx_obj_create(self->context, in, sizeof(in), out, sizeof(out));
	ASSERT_NE(NULL, domain);
	number = htobe32(made(out));
	set_command(tis_in, CREATE_TIS, 0);
	memcpy(tis_in + TIS_CONTEXT + TIS_TRANSPORT_DOMAIN, &number, sizeof(number));
	tis = mlx5dv_devx_obj_create(self->context, tis_in, sizeof(tis_in), out, sizeof(out));
	ASSERT_NE(NULL, tis);
	EXPECT_EQ(0, mlx5dv_devx_obj_destroy(tis));
	EXPECT_EQ(0, mlx5dv_devx_obj_destroy(domain));
}

/* An error of firmware comes as one, and what follows works. */
TEST_F(mlx5_vfio_test, refused)
{
	uint8_t in[16] = {}, out[16] = {};
	struct ibv_pd *pd;

	set_command(in, NO_SUCH_COMMAND, 0);
	EXPECT_EQ(EREMOTEIO, mlx5dv_devx_general_cmd(self->context, in, sizeof(in), out,
						     sizeof(out)));
	EXPECT_EQ(BAD_OP, out[0]);
	pd = ibv_alloc_pd(self->context);
	ASSERT_NE(NULL, pd);
	EXPECT_EQ(0, ibv_dealloc_pd(pd));
}

/* Each command after the first ones ends with an event. All were taken. */
TEST_F(mlx5_vfio_test, events)
{
	struct pollfd poll_fd = {
		.fd = mlx5dv_vfio_get_events_fd(self->context),
		.events = POLLIN,
	};
	struct ibv_pd *pd;
	int i;

	/* As many as the queue of events has room for, twice. */
	for (i = 0; i < 200; i++) {
		pd = ibv_alloc_pd(self->context);
		ASSERT_NE(NULL, pd);
		ASSERT_EQ(0, ibv_dealloc_pd(pd));
	}
	EXPECT_EQ(0, mlx5dv_vfio_process_events(self->context));
	EXPECT_EQ(0, poll(&poll_fd, 1, 0));
}

/* The health counter goes on. Three times that it does not, rdma-core aborts. */
TEST_F(mlx5_vfio_test, health)
{
	int i;

	for (i = 0; i < 5; i++) {
		EXPECT_EQ(0, mlx5dv_vfio_process_events(self->context));
		sleep(1);
	}
}

int main(int argc, char **argv)
{
	if (argc < 2)
		ksft_exit_fail_msg("mlx5_vfio_test ADDRESS\n");
	device_bdf = argv[1];
	return test_harness_run(1, argv);
}
