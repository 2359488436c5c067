/* Which operators the program gets, as addresses that are looked up when it is loaded, like those of its own
 * calls: in a file without the definitions, and exempt from -Bsymbolic-functions (in_effect.list), or they
 * would be ours in any case. */
#include "api/operators.h"

extern EXPORT new_function new_ __asm__("_Znwm");
extern EXPORT new_function new_array __asm__("_Znam");
extern EXPORT delete_function delete_ __asm__("_ZdlPv");
extern EXPORT delete_function delete_array __asm__("_ZdaPv");
extern EXPORT new_aligned_function new_aligned __asm__("_ZnwmSt11align_val_t");
extern EXPORT new_aligned_function new_array_aligned __asm__("_ZnamSt11align_val_t");
extern EXPORT delete_aligned_function delete_aligned __asm__("_ZdlPvSt11align_val_t");
extern EXPORT delete_aligned_function delete_array_aligned __asm__("_ZdaPvSt11align_val_t");

const struct operators operators_in_effect = {
	new_,        new_array,         delete_,        delete_array,
	new_aligned, new_array_aligned, delete_aligned, delete_array_aligned,
};
