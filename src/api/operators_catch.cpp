// The one thing that C cannot say: catch whatever is thrown. Part of the shared library only, and all that it takes of a C++
// library is weak: it is the program's, and where there is none, cxx_can_catch says so.
__asm__(".weak __gxx_personality_v0, __cxa_begin_catch, __cxa_end_catch");

extern "C" __attribute__((visibility("hidden"))) void *cxx_null_if_thrown(void *(*function)(const void *), const void *argument) {
	try {
		return function(argument);
	} catch (...) {
		return nullptr;
	}
}
