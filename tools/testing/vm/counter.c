// SPDX-License-Identifier: GPL-2.0
/*
 * Counts the instructions that a machine executes: a plugin for QEMU's TCG.
 *
 * The guest says where to count by marks: no-ops that no compiler emits, with a
 * number, "nopl 0x564d0001(%rax)" to begin and "nopl 0x564d0002(%rax)" to end.
 * At each end the log gets a line "ADDRESS LENGTH TIMES" for each block of code
 * that was executed since the beginning: where it is in the guest, how many
 * instructions it has, and how often. The last line is "end TOTAL", in
 * instructions. One with a repeat prefix counts as one.
 */
#include <glib.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <qemu-plugin.h>

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

enum { BEGIN = 1, END = 2 };

/* A block of code. Once translated again, it is the same if it is as long. */
struct block {
	uint64_t address;
	uint64_t length;
	qemu_plugin_u64 executed;
	/* At the last beginning. */
	uint64_t before;
};

static GMutex lock;
static GHashTable *blocks;
static FILE *log;

static guint hash(gconstpointer key)
{
	const struct block *block = key;

	return g_int64_hash(&block->address) ^ block->length;
}

static gboolean same(gconstpointer a, gconstpointer b)
{
	const struct block *one = a, *other = b;

	return one->address == other->address && one->length == other->length;
}

static struct block *find(uint64_t address, uint64_t length)
{
	struct block key = { .address = address, .length = length };
	struct block *block;

	g_mutex_lock(&lock);
	block = g_hash_table_lookup(blocks, &key);
	if (!block) {
		block = g_new0(struct block, 1);
		*block = key;
		block->executed = qemu_plugin_scoreboard_u64(
			qemu_plugin_scoreboard_new(sizeof(uint64_t)));
		g_hash_table_add(blocks, block);
	}
	g_mutex_unlock(&lock);
	return block;
}

static void mark(unsigned int cpu, void *number)
{
	GHashTableIter iter;
	gpointer each;
	uint64_t total = 0;

	(void)cpu;
	g_mutex_lock(&lock);
	g_hash_table_iter_init(&iter, blocks);
	while (g_hash_table_iter_next(&iter, &each, NULL)) {
		struct block *block = each;
		uint64_t executed = qemu_plugin_u64_sum(block->executed);

		if (GPOINTER_TO_INT(number) == BEGIN) {
			block->before = executed;
		} else if (executed > block->before) {
			executed -= block->before;
			total += executed;
			fprintf(log, "%" PRIx64 " %" PRIu64 " %" PRIu64 "\n",
				block->address, block->length,
				executed / block->length);
		}
	}
	if (GPOINTER_TO_INT(number) == END) {
		fprintf(log, "end %" PRIu64 "\n", total);
		fflush(log);
	}
	g_mutex_unlock(&lock);
}

/* Returns the number of a mark, or 0. */
static int mark_of(const struct qemu_plugin_insn *insn)
{
	static const uint8_t opcode[] = { 0x0f, 0x1f, 0x80 };
	static const uint8_t tag[] = { 0x00, 0x4d, 0x56 };
	uint8_t bytes[7];

	if (qemu_plugin_insn_size(insn) != sizeof(bytes) ||
	    qemu_plugin_insn_data(insn, bytes, sizeof(bytes)) != sizeof(bytes) ||
	    memcmp(bytes, opcode, sizeof(opcode)) ||
	    memcmp(bytes + 4, tag, sizeof(tag)))
		return 0;
	return bytes[3];
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t length = qemu_plugin_tb_n_insns(tb);
	struct block *block = find(qemu_plugin_tb_vaddr(tb), length);

	(void)id;
	qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(
		tb, QEMU_PLUGIN_INLINE_ADD_U64, block->executed, length);
	for (size_t i = 0; i < length; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		int number = mark_of(insn);

		if (number)
			qemu_plugin_register_vcpu_insn_exec_cb(
				insn, mark, QEMU_PLUGIN_CB_NO_REGS,
				GINT_TO_POINTER(number));
	}
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id,
					   const qemu_info_t *info, int argc,
					   char **argv)
{
	(void)info;
	if (argc != 1 || !g_str_has_prefix(argv[0], "log="))
		return -1;
	log = fopen(argv[0] + strlen("log="), "w");
	if (!log)
		return -1;
	blocks = g_hash_table_new(hash, same);
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
