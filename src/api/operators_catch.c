/* The one thing that C cannot say: catch whatever is thrown. In assembly, so that the library needs no C++
 * compiler. Part of the shared library only, and all that it takes of a C++ library is weak: it is the
 * program's, and where there is none, cxx_can_catch says so.
 *
 * This is what a compiler makes of
 *
 * 	extern "C" void *cxx_null_if_thrown(void *(*function)(const void *), const void *argument) {
 * 		try {
 * 			return function(argument);
 * 		} catch (...) {
 * 			return nullptr;
 * 		}
 * 	}
 *
 * and its table says, in the bytes that every personality routine of C++ reads: what is thrown between `call`
 * and `called` goes on at `caught`, whatever it is; what is thrown between `caught` and `end` goes
 * through. */
#include "api/operators.h"

#if defined(__x86_64__)
__asm__(".text\n"
        ".globl cxx_null_if_thrown\n"
        ".hidden cxx_null_if_thrown\n"
        ".type cxx_null_if_thrown, @function\n"
        ".balign 16\n"
        "cxx_null_if_thrown:\n"
        ".cfi_startproc\n"
        ".cfi_personality 0x9b, .Lcatch_personality\n" /* the address of its address, from here, in 4 bytes */
        ".cfi_lsda 0x1b, .Lcatch_table\n"
        "	endbr64\n"
        "	subq $8, %rsp\n"
        ".cfi_adjust_cfa_offset 8\n"
        "	movq %rdi, %rax\n"
        "	movq %rsi, %rdi\n"
        ".Lcatch_call:\n"
        "	call *%rax\n"
        ".Lcatch_called:\n"
        "	addq $8, %rsp\n"
        ".cfi_adjust_cfa_offset -8\n"
        "	ret\n"
        ".cfi_adjust_cfa_offset 8\n"
        ".Lcatch_caught:\n" /* the exception is in %rax */
        "	endbr64\n"
        "	movq %rax, %rdi\n"
        "	call __cxa_begin_catch@PLT\n"
        "	call __cxa_end_catch@PLT\n"
        "	xorl %eax, %eax\n"
        "	addq $8, %rsp\n"
        ".cfi_adjust_cfa_offset -8\n"
        "	ret\n"
        ".Lcatch_end:\n"
        ".cfi_endproc\n"
        ".size cxx_null_if_thrown, . - cxx_null_if_thrown\n");
#elif defined(__aarch64__)
__asm__(".text\n"
        ".globl cxx_null_if_thrown\n"
        ".hidden cxx_null_if_thrown\n"
        ".type cxx_null_if_thrown, %function\n"
        ".balign 16\n"
        "cxx_null_if_thrown:\n"
        ".cfi_startproc\n"
        ".cfi_personality 0x9b, .Lcatch_personality\n"
        ".cfi_lsda 0x1b, .Lcatch_table\n"
        "	hint #34\n" /* bti c, by the name that older assemblers know */
        "	stp x29, x30, [sp, #-16]!\n"
        ".cfi_def_cfa_offset 16\n"
        ".cfi_offset x29, -16\n"
        ".cfi_offset x30, -8\n"
        "	mov x29, sp\n"
        "	mov x8, x0\n"
        "	mov x0, x1\n"
        ".Lcatch_call:\n"
        "	blr x8\n"
        ".Lcatch_called:\n"
        "	b .Lcatch_return\n"
        ".Lcatch_caught:\n" /* the exception is in x0 */
        "	hint #36\n"     /* bti j */
        "	bl __cxa_begin_catch\n"
        "	bl __cxa_end_catch\n"
        "	mov x0, xzr\n"
        ".Lcatch_return:\n"
        "	ldp x29, x30, [sp], #16\n"
        ".cfi_restore x29\n"
        ".cfi_restore x30\n"
        ".cfi_def_cfa_offset 0\n"
        "	ret\n"
        ".Lcatch_end:\n"
        ".cfi_endproc\n"
        ".size cxx_null_if_thrown, . - cxx_null_if_thrown\n");
#else
#error "who catches what a new-handler throws: a few lines of assembly for this machine are missing"
#endif

__asm__(".weak __gxx_personality_v0, __cxa_begin_catch, __cxa_end_catch\n"
        ".section .data.rel.ro, \"aw\"\n"
        ".balign 8\n"
        ".Lcatch_personality:\n"
        "	.8byte __gxx_personality_v0\n"
        ".section .gcc_except_table, \"a\"\n"
        ".balign 4\n"
        ".Lcatch_table:\n"
        "	.byte 0xff\n" /* landing pads count from the function's start */
        "	.byte 0x1b\n" /* types: 4 bytes, from here */
        "	.uleb128 .Lcatch_types - .Lcatch_sites\n"
        ".Lcatch_sites:\n"
        "	.byte 1\n" /* numbers in uleb128 */
        "	.uleb128 .Lcatch_actions - .Lcatch_first_site\n"
        ".Lcatch_first_site:\n"
        "	.uleb128 .Lcatch_call - cxx_null_if_thrown, .Lcatch_called - .Lcatch_call, .Lcatch_caught - "
        "cxx_null_if_thrown, 1\n"
        "	.uleb128 .Lcatch_caught - cxx_null_if_thrown, .Lcatch_end - .Lcatch_caught, 0, 0\n"
        ".Lcatch_actions:\n"
        "	.byte 1, 0\n" /* type 1, and no others */
        "	.balign 4\n"
        "	.4byte 0\n" /* type 1: any */
        ".Lcatch_types:\n"
        ".text\n");
